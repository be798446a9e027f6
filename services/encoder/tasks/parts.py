"""Parts of long exports: pictures of one chunk, or the sound of the whole output.

A part is stored under its content key only after its frames were counted, so whoever finds
it can use it; and one that is there already is not made again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from services.common.content_key import Toolchain, audio_key, video_key
from services.common.frames import FrameRange, rate_of
from services.encoder.board import Run
from services.encoder.commands.builder import audio_commands, video_commands
from services.encoder.commands.containers import form_of_sound
from services.encoder.commands.cues import Cues
from services.encoder.commands.filters import samples_of
from services.encoder.commands.look import look_of
from services.encoder.deadline import Deadline
from services.encoder.errors import EncoderFailed, EncodeStalled, GpuFailed, OutputMismatch
from services.encoder.inspection.output_facts import check_output, check_soundtrack
from services.encoder.metrics import EncoderMetrics
from services.encoder.scratch import scratch
from services.encoder.sources.gateway import SourceGateway, SourceHandle
from services.encoder.sources.readable import unless_lost
from services.encoder.storage import StorageClient
from services.encoder.tasks.copying import copy_part
from services.encoder.tasks.damage import Wanted
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns, Level, Made, Order
from services.encoder.tasks.subtitles import subtitles_of_chunk
from services.encoder.tasks.watermark import Watermarks
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

Fill = Callable[[Order, SourceHandle, Path], Awaitable[Made]]


class KeyOf(Protocol):
    """Names a part."""

    def __call__(self, *, tolerant: bool) -> bytes:
        """Return the content key; another one where damage was passed over."""


@dataclass(frozen=True)
class Part:
    """A stored part.

    Attributes:
        frames_per_second: frames encoded per second; 0 where the part was there already.
        warnings: what the owner should know.
    """

    stored: task_pb2.StoredPart
    frames_per_second: float = 0.0
    warnings: Sequence[pb.ExportWarning] = ()


class PartEncode:
    """Makes parts."""

    def __init__(
        self,
        own_scratch: Path,
        runs: FfmpegRuns,
        gateway: SourceGateway,
        storage_client: StorageClient,
        metrics: EncoderMetrics,
        tools: Toolchain,
    ) -> None:
        self._own_scratch = own_scratch
        self._runs = runs
        self._gateway = gateway
        self._storage = storage_client
        self._watermarks = Watermarks(runs, gateway, storage_client)
        self._metrics = metrics
        self._tools = tools

    async def video(
        self, run: Run, user_id: str, source: task_pb2.TaskSource, work: task_pb2.VideoTask
    ) -> Part:
        """Encode the pictures of one chunk, or copy them.

        Raises:
            MediaError: what was wrong with the source, FFmpeg or the part; GPU_FAILED where
                the GPU could not, COPY_FAILED where they cannot be copied.
            DomainError: STORAGE_UNAVAILABLE, SCRATCH_FULL.
        """
        chunk = work.chunk
        deadline = Deadline.after(work.time_limit)

        async def order(handle: SourceHandle, folder: Path) -> Order:
            await self._watermarks.make(run, user_id, chunk, folder, deadline)
            return video_order(work, deadline, await subtitles_of_chunk(handle, chunk, deadline))

        def key(*, tolerant: bool) -> bytes:
            chunk.tolerant = tolerant
            return video_key(user_id, source, chunk, self._tools)

        if chunk.copied:
            copy = partial(self._copy, run, source.size_bytes, chunk)
            return await self._make(run, user_id, source, order, key, copy)
        try:
            return await self._make(run, user_id, source, order, key)
        except (EncoderFailed, EncodeStalled, OutputMismatch) as error:
            if chunk.family != pb.ENCODER_FAMILY_NVENC:
                raise
            self._metrics.fallbacks.inc()
            raise GpuFailed(error.message) from error

    async def audio(
        self, run: Run, user_id: str, source: task_pb2.TaskSource, work: task_pb2.AudioTask
    ) -> Part:
        """Encode the sound of a whole output.

        Raises:
            MediaError: what was wrong with the source, FFmpeg or the part.
            DomainError: STORAGE_UNAVAILABLE, SCRATCH_FULL.
        """
        soundtrack = work.soundtrack

        async def order(_: SourceHandle, __: Path) -> Order:
            return audio_order(work)

        def key(*, tolerant: bool) -> bytes:
            soundtrack.tolerant = tolerant
            return audio_key(user_id, source, soundtrack, self._tools)

        return await self._make(run, user_id, source, order, key)

    async def _copy(
        self,
        run: Run,
        size_bytes: int,
        chunk: task_pb2.VideoChunk,
        order: Order,
        source: SourceHandle,
        folder: Path,
    ) -> Made:
        """Make a part of a source's own pictures."""
        run.enter(pb.EXPORT_PHASE_ENCODING)
        copying = copy_part(source.url, size_bytes, chunk, folder, order.deadline)
        path = await unless_lost(copying, source)
        facts = await self._runs.inspect(path, order.deadline)
        order.check(facts)
        return Made(path, facts, seconds=0.0)

    async def _make(
        self,
        run: Run,
        user_id: str,
        source: task_pb2.TaskSource,
        order_of: Callable[[SourceHandle, Path], Awaitable[Order]],
        key_of: KeyOf,
        fill: Fill | None = None,
    ) -> Part:
        """Make a part unless it is there.

        Args:
            fill: how; by default by running the order's commands.
        """
        fill = fill or partial(self._runs.fill, run)
        key = key_of(tolerant=False)
        reference = storage.ObjectRef(cache_key=key.hex())
        [there] = await self._storage.stat(user_id, [reference])
        if there.exists:
            return Part(task_pb2.StoredPart(key=key, size_bytes=there.size_bytes, found=True))
        with scratch(self._own_scratch, run.run_id) as folder:
            opened = self._gateway.expose(self._storage.source_object(user_id, source))
            async with opened as handle:
                try:
                    order = await order_of(handle, folder)
                    made = await fill(order, handle, folder)
                finally:
                    self._metrics.bytes_read.inc(handle.bytes_read)
            run.enter(pb.EXPORT_PHASE_UPLOADING)
            if made.damage is not None:
                # Nobody plans with this key or looks for it: whoever needs the part makes it
                # again, and so hears of the damage.
                key = key_of(tolerant=True)
            upload = storage.CreateUploadRequest(cache_key=key.hex())
            stored = await self._storage.upload(user_id, upload, made.path)
        self._metrics.bytes_written.inc(stored.size_bytes)
        frames_per_second = made.facts.frame_count / made.seconds if made.seconds else 0.0
        if frames_per_second:
            self._metrics.encoded(order.family, frames_per_second, order.rate)
        part = task_pb2.StoredPart(key=key, size_bytes=stored.size_bytes)
        return Part(part, frames_per_second, made.warnings(order.rate))


def video_order(
    work: task_pb2.VideoTask, deadline: Deadline, subtitles: Cues | None = None
) -> Order:
    """Return what the pictures of a chunk are made of.

    Args:
        subtitles: of the source, where some are drawn into them.
    """
    chunk = work.chunk
    frames = FrameRange(chunk.start_frame, chunk.end_frame)
    planned = pb.Plan(
        frame_count=frames.frame_count,
        frame_rate=chunk.frame_rate,
        width=chunk.width,
        height=chunk.height,
        quality=chunk.quality,
        video_codec=chunk.video_codec,
        dynamic_range=chunk.dynamic_range,
    )
    look = look_of(chunk.info.video, planned)
    wanted = Wanted(chunk.info, chunk.frame_rate, [frames], pictures=True, sound=False)
    return Order(
        commands=lambda site: video_commands(site=site, chunk=chunk, subtitles=subtitles),
        check=lambda facts: check_output(facts, planned, look),
        family=chunk.family,
        rate=chunk.frame_rate,
        deadline=deadline,
        wanted=wanted if work.tolerate_damage else None,
    )


def audio_order(work: task_pb2.AudioTask) -> Order:
    """Return what the sound of an output is made of."""
    soundtrack = work.soundtrack
    rate = rate_of(soundtrack.frame_rate)
    spans = [FrameRange(span.start_frame, span.end_frame) for span in soundtrack.spans]
    frames = sum(span.frame_count for span in spans)
    wanted = Wanted(*(soundtrack.info, soundtrack.frame_rate, spans), pictures=False, sound=True)
    return Order(
        commands=lambda site: audio_commands(site=site, soundtrack=soundtrack),
        check=lambda facts: check_soundtrack(facts, frames / rate),
        family=pb.ENCODER_FAMILY_CPU,
        rate=soundtrack.frame_rate,
        deadline=Deadline.after(work.time_limit),
        level=_level(soundtrack, samples_of(frames, rate)),
        wanted=wanted if work.tolerate_damage else None,
    )


def _level(soundtrack: task_pb2.Soundtrack, samples: int) -> Level | None:
    if not soundtrack.HasField("loudness_lufs"):
        return None
    form = form_of_sound(soundtrack.codec)
    return Level(soundtrack.loudness_lufs, samples, form, tagged=True)
