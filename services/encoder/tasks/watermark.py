"""Makes a watermark of an image of a stranger's: a picture that can be laid over every frame."""

from __future__ import annotations

from pathlib import Path

from services.encoder.board import Run
from services.encoder.commands.ffmpeg_command import FfmpegCommand
from services.encoder.commands.marking import MARK, margin_of
from services.encoder.commands.options import MAX_PIXELS, RW_TIMEOUT_MICROSECONDS, global_options
from services.encoder.deadline import Deadline
from services.encoder.errors import (
    EncoderFailed,
    InvalidSource,
    InvalidWatermark,
    MemoryExceeded,
    SourceChanged,
    SourceNotFound,
)
from services.encoder.sources.gateway import SourceGateway
from services.encoder.storage import StorageClient
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

Picture = pb.Plan | task_pb2.VideoChunk
# FFmpeg's demuxers of single pictures; an animated one has another.
IMAGE_FORMATS = ("png_pipe", "jpeg_pipe", "webp_pipe")


class Watermarks:
    """Makes watermarks where outputs are made."""

    def __init__(
        self, runs: FfmpegRuns, gateway: SourceGateway, storage_client: StorageClient
    ) -> None:
        self._runs = runs
        self._gateway = gateway
        self._storage = storage_client

    async def make(
        self, run: Run, user_id: str, picture: Picture, folder: Path, deadline: Deadline
    ) -> None:
        """Make the watermark of a plan or a chunk in a folder, where it has one.

        Raises:
            InvalidWatermark: its image cannot be drawn, or is not what it was.
            MediaError, DomainError: what else went wrong.
        """
        if not picture.HasField("watermark"):
            return
        watermark, size = picture.watermark, (picture.width, picture.height)
        image = task_pb2.TaskSource(
            source=watermark.image, etag=watermark.etag, size_bytes=watermark.size_bytes
        )
        async with self._gateway.expose(self._storage.source_object(user_id, image)) as handle:
            command = mark_command(self._runs.ffmpeg, handle.url, watermark, size, folder)
            try:
                await self._runs.make(
                    *(run, [command], handle),
                    family=pb.ENCODER_FAMILY_CPU,
                    deadline=deadline,
                    rate=pb.Rational(numerator=1, denominator=1),
                )
            except (EncoderFailed, InvalidSource, MemoryExceeded) as error:
                raise InvalidWatermark(
                    "the watermark is not a PNG, JPEG or WebP image that can be drawn"
                ) from error
            except (SourceNotFound, SourceChanged) as error:
                raise InvalidWatermark(
                    "the watermark's image was overwritten or removed since the export was created"
                ) from error


def mark_command(
    ffmpeg: Path, url: str, watermark: pb.Watermark, size: tuple[int, int], folder: Path
) -> FfmpegCommand:
    """Return the run that makes a watermark of an image: of its size, as much as is seen of it.

    Whatever a stranger's image is, this is the only run that decodes it.

    Args:
        url: of the image, as the gateway serves it.
        size: of the output's frames.
    """
    output = folder / MARK
    width, height = size
    wide = max(1, round(watermark.width * width))
    high = max(1, height - 2 * margin_of(watermark, width))
    filters = [
        # Scaled as they are seen: what cannot be seen has colours, too.
        "format=gbrap",
        "premultiply=inplace=1",
        f"scale=w={wide}:h={high}:force_original_aspect_ratio=decrease:flags=bicubic",
        "unpremultiply=inplace=1",
        "format=rgba",
        f"colorchannelmixer=aa={watermark.opacity:.6f}",
    ]
    arguments = [
        *global_options(ffmpeg),
        *("-protocol_whitelist", "http,tcp", "-format_whitelist", ",".join(IMAGE_FORMATS)),
        *("-max_pixels", str(MAX_PIXELS), "-http_proxy", "", "-max_redirects", "0"),
        # One picture is decoded no faster by several threads.
        *("-rw_timeout", str(RW_TIMEOUT_MICROSECONDS), "-threads", "1", "-i", url),
        *("-map", "0:v:0", "-frames:v", "1", "-vf", ",".join(filters)),
        *("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
        *("-c:v", "png", "-f", "image2", "-update", "1", str(output)),
    ]
    return FfmpegCommand(tuple(arguments), {}, output, 0)
