"""Makes still pictures of a finished output: its poster and its sprites."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from services.common.frames import rate_of
from services.common.planner import duration_of
from services.common.stills import POSTER, SHEETS, VTT, vtt_of
from services.encoder.board import Run
from services.encoder.commands.colour import colour_of
from services.encoder.commands.containers import demuxer_of
from services.encoder.commands.ffmpeg_command import FfmpegCommand
from services.encoder.commands.look import TEN_BITS
from services.encoder.commands.options import escaped, global_options
from services.encoder.deadline import Deadline
from services.encoder.errors import OutputMismatch
from services.encoder.inspection.output_facts import OutputFacts
from services.encoder.storage import StorageClient
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage

# Where the first frame that is not black is looked for: the first minute.
_SEARCHED_SECONDS = 60
# A picture is black of which so many percent of the pixels are darker than that, of 255.
_BLACK_PERCENT, _BLACK_LUMA = 95, 32
# As JFIF has them, whatever the output's matrix is.
_JPEG_COLOURS = "out_color_matrix=bt601:out_range=pc,format=yuvj420p"
_POSTER_TIME = "poster.txt"


@dataclass(frozen=True, slots=True)
class MadeStills:
    """Still pictures on scratch.

    Attributes:
        files: in the order of their names in the plan.
        poster_time: when the output shows its poster, in seconds; None without one.
        sheets: of sprites.
    """

    files: tuple[Path, ...] = ()
    poster_time: Fraction | None = None
    sheets: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """A finished video that stills are made of.

    Attributes:
        facts: what it is.
        threads: of FFmpeg.
    """

    ffmpeg: Path
    video: Path
    plan: pb.Plan
    facts: OutputFacts
    threads: int


class Stills:
    """Makes still pictures and stores them."""

    def __init__(self, runs: FfmpegRuns, storage_client: StorageClient) -> None:
        self._runs = runs
        self._storage = storage_client

    async def make(
        self, run: Run, plan: pb.Plan, video: Path, facts: OutputFacts, deadline: Deadline
    ) -> MadeStills:
        """Make what a plan says of a finished video, beside it.

        Args:
            facts: what the video is.

        Raises:
            MediaError, DomainError: why that failed.
        """
        files: list[Path] = []
        time = None
        shown = Shown(self._runs.ffmpeg, video, plan, facts, self._runs.threads)
        if plan.HasField("poster"):
            time = await self._poster(run, shown, deadline)
            files.append(video.with_name(POSTER))
        if plan.HasField("sprites"):
            await self._make(run, plan, sprites_command(shown), deadline)
            vtt = video.with_name(VTT)
            vtt.write_text(vtt_of(plan.sprites, rate_of(plan.frame_rate), plan.frame_count))
            names = [SHEETS % (sheet + 1) for sheet in range(plan.sprites.sheet_count)]
            files += [vtt, *(video.with_name(name) for name in names)]
        missing = [file.name for file in files if not file.exists()]
        if missing:
            raise OutputMismatch(f"the output lacks {', '.join(missing)}")
        return MadeStills(tuple(files), time, plan.sprites.sheet_count)

    async def store(
        self,
        user_id: str,
        upload: storage.CreateUploadRequest,
        made: MadeStills,
        output: pb.Output,
    ) -> None:
        """Store what was made beside the video of an export, and note it in its output.

        Raises:
            DomainError: STORAGE_UNAVAILABLE; whoever deletes the video deletes what is there.
        """
        sizes = {}
        for file in made.files:
            request = storage.CreateUploadRequest()
            request.CopyFrom(upload)
            request.export_output.file = file.name
            sizes[file.name] = (await self._storage.store(user_id, request, file)).size_bytes
        if made.poster_time is not None:
            output.poster.time.CopyFrom(duration_of(made.poster_time))
            output.poster.size_bytes = sizes.pop(POSTER)
        if made.sheets:
            output.sprites.sheet_count = made.sheets
            output.sprites.size_bytes = sum(sizes.values())

    async def _poster(self, run: Run, shown: Shown, deadline: Deadline) -> Fraction:
        """Make the poster; return when the output shows it."""
        plan, told = shown.plan, shown.video.with_name(_POSTER_TIME)
        frame = plan.poster.frame
        if not plan.poster.HasField("frame"):
            await self._make(run, plan, poster_command(shown, None), deadline)
            found = re.search(r"pts_time:([0-9.]+)", told.read_text() if told.exists() else "")
            if found is not None:
                return round(Fraction(found[1]) * rate_of(plan.frame_rate)) / rate_of(
                    plan.frame_rate
                )
            frame = 0  # All is black.
        await self._make(run, plan, poster_command(shown, frame), deadline)
        return frame / rate_of(plan.frame_rate)

    async def _make(
        self, run: Run, plan: pb.Plan, command: FfmpegCommand, deadline: Deadline
    ) -> None:
        cpu = pb.ENCODER_FAMILY_CPU
        await self._runs.make(run, [command], family=cpu, deadline=deadline, rate=plan.frame_rate)


def poster_command(shown: Shown, frame: int | None) -> FfmpegCommand:
    """Return the run that makes a JPEG of a frame; of the first that is not black by default.

    That one's time is written to a file beside it; where there is none, nothing is.
    """
    plan, output = shown.plan, shown.video.with_name(POSTER)
    seek: list[str] = []
    filters = _fitted(shown, plan.poster.width, plan.poster.height)
    if frame is None:
        seek = ["-t", str(_SEARCHED_SECONDS)]
        filters = [
            f"blackframe=amount=0:threshold={_BLACK_LUMA}",
            f"metadata=mode=select:key=lavfi.blackframe.pblack:value={_BLACK_PERCENT}"
            ":function=less",
            f"metadata=mode=print:file={escaped(shown.video.with_name(_POSTER_TIME))}",
            *filters,
        ]
    elif frame:
        # Half a frame early, lest rounding miss it.
        seek = ["-ss", f"{float((frame - Fraction(1, 2)) / rate_of(plan.frame_rate)):.6f}"]
    arguments = [*_read(shown, seek), "-vf", ",".join(filters), "-frames:v", "1"]
    return FfmpegCommand((*arguments, *_jpeg(2), "-update", "1", str(output)), {}, output, 0)


def sprites_command(shown: Shown) -> FfmpegCommand:
    """Return the run that makes the sheets of an output."""
    sprites = shown.plan.sprites
    output = shown.video.with_name(SHEETS)
    filters = [
        rf"select=not(mod(n\,{sprites.interval_frames}))",
        *_fitted(shown, sprites.tile_width, sprites.tile_height),
        f"tile={sprites.columns}x{sprites.columns}",
    ]
    arguments = [*_read(shown), "-vf", ",".join(filters)]
    return FfmpegCommand((*arguments, *_jpeg(4), str(output)), {}, output, 0)


def _fitted(shown: Shown, width: int, height: int) -> list[str]:
    """Return the filters that make a frame a JPEG's of a size.

    JPEGs are SDR: HDR and wide gamuts that the output has kept are converted, as an output that
    does not keep them has them.
    """
    size = f"scale=w={width}:h={height}:flags=bicubic"
    facts = shown.facts
    after = colour_of(
        pb.VideoStream(
            width=facts.width,
            height=facts.height,
            bit_depth=10 if facts.pixel_format == TEN_BITS else 8,
            pixel_format=facts.pixel_format,
            color_primaries=facts.color_primaries,
            color_transfer=facts.color_transfer,
            color_space=facts.color_space,
            color_range=facts.color_range,
        )
    ).after
    return [size, *after, f"scale={_JPEG_COLOURS}"] if after else [f"{size}:{_JPEG_COLOURS}"]


def _read(shown: Shown, options: Sequence[str] = ()) -> list[str]:
    local = ["-protocol_whitelist", "file", "-format_whitelist", demuxer_of(shown.video)]
    threads = ["-threads", str(shown.threads)]
    filters = ["-filter_threads", str(shown.threads)]
    return [
        *(*global_options(shown.ffmpeg), *filters, *local, *threads, *options),
        *("-i", str(shown.video), "-map", "0:v:0"),
    ]


def _jpeg(scale: int) -> list[str]:
    """Return the options of JPEGs, of a quality from 1, the best, to 31."""
    clean = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
    codec = ["-c:v", "mjpeg", "-threads:v", "1", "-q:v", str(scale), "-fps_mode:v", "passthrough"]
    return [*clean, *codec, "-f", "image2"]
