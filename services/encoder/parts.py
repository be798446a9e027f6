"""Parts of long exports: pictures of one chunk, or the sound of the whole output.

A part is stored under its content key only after its frames were counted, so whoever finds
it can use it; and one that is there already is not made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from services.common.content_key import Toolchain, audio_key, video_key
from services.common.frames import FrameRange
from services.encoder.board import Run
from services.encoder.command import audio_commands, video_commands
from services.encoder.damage import Wanted
from services.encoder.deadline import Deadline
from services.encoder.errors import EncoderFailed, EncodeStalled, GpuFailed, OutputMismatch
from services.encoder.ffmpeg_runs import FfmpegRuns, Level, Order
from services.encoder.filters import samples_of
from services.encoder.metrics import EncoderMetrics
from services.encoder.output_facts import check_output, check_soundtrack
from services.encoder.scratch import scratch
from services.encoder.source_gateway import SourceGateway
from services.encoder.storage import StorageClient
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2


class KeyOf(Protocol):
    """Names a part."""

    def __call__(self, *, tolerant: bool) -> bytes:
        """Return the content key; another one where damage was passed over."""


@dataclass(frozen=True)
class Part:
    """A stored part.

    Attributes:
        frames_per_second: frames made per second; 0 where the part was there already.
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
        self._metrics = metrics
        self._tools = tools

    async def video(
        self, run: Run, user_id: str, source: task_pb2.TaskSource, work: task_pb2.VideoTask
    ) -> Part:
        """Encode the pictures of one chunk.

        Raises:
            MediaError: what was wrong with the source, FFmpeg or the part; GPU_FAILED where
                the GPU could not.
            DomainError: STORAGE_UNAVAILABLE, SCRATCH_FULL.
        """
        chunk = work.chunk

        def key(*, tolerant: bool) -> bytes:
            chunk.tolerant = tolerant
            return video_key(user_id, source, chunk, self._tools)

        try:
            return await self._make(run, user_id, source, video_order(work), key)
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

        def key(*, tolerant: bool) -> bytes:
            soundtrack.tolerant = tolerant
            return audio_key(user_id, source, soundtrack, self._tools)

        return await self._make(run, user_id, source, audio_order(work), key)

    async def _make(
        self, run: Run, user_id: str, source: task_pb2.TaskSource, order: Order, key_of: KeyOf
    ) -> Part:
        key = key_of(tolerant=False)
        reference = storage.ObjectRef(cache_key=key.hex())
        [there] = await self._storage.stat(user_id, [reference])
        if there.exists:
            return Part(task_pb2.StoredPart(key=key, size_bytes=there.size_bytes, found=True))
        with scratch(self._own_scratch, run.run_id) as folder:
            opened = self._gateway.expose(self._storage.source_object(user_id, source))
            async with opened as handle:
                try:
                    made = await self._runs.fill(run, order, handle, folder)
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
        frames_per_second = made.facts.frame_count / max(made.seconds, 1e-3)
        if made.facts.frame_count:
            self._metrics.encoded(order.family, frames_per_second, order.rate)
        part = task_pb2.StoredPart(key=key, size_bytes=stored.size_bytes)
        return Part(part, frames_per_second, made.warnings(order.rate))


def video_order(work: task_pb2.VideoTask) -> Order:
    """Return what the pictures of a chunk are made of."""
    chunk = work.chunk
    frames = FrameRange(chunk.start_frame, chunk.end_frame)
    planned = pb.Plan(
        frame_count=frames.frame_count,
        frame_rate=chunk.frame_rate,
        width=chunk.width,
        height=chunk.height,
    )
    wanted = Wanted(chunk.info, chunk.frame_rate, [frames], pictures=True, sound=False)
    return Order(
        commands=lambda site: video_commands(site=site, chunk=chunk),
        check=lambda facts: check_output(facts, planned),
        family=chunk.family,
        rate=chunk.frame_rate,
        deadline=Deadline.after(work.time_limit),
        wanted=wanted if work.tolerate_damage else None,
    )


def audio_order(work: task_pb2.AudioTask) -> Order:
    """Return what the sound of an output is made of."""
    soundtrack = work.soundtrack
    rate = Fraction(soundtrack.frame_rate.numerator, soundtrack.frame_rate.denominator)
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
    return Level(soundtrack.loudness_lufs, samples, pictures=False)
