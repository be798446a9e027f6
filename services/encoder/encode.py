"""A whole encode: from a source at one version to a verified, stored file.

Used by queued tasks and by direct Encode calls alike.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from services.common.errors import DomainError, Reason, as_sentence
from services.common.planner import duration_of
from services.encoder.board import Run
from services.encoder.command import ENCODER_NAMES, whole_commands
from services.encoder.errors import EncoderFailed, EncodeStalled, OutputMismatch
from services.encoder.ffmpeg import FfmpegProcess, FfmpegResult
from services.encoder.metrics import EncoderMetrics
from services.encoder.output_facts import OutputFacts, check_output
from services.encoder.probe import verify_output
from services.encoder.settings import EncoderSettings
from services.encoder.source_gateway import SourceGateway, SourceHandle
from services.encoder.storage import StorageClient
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

log = structlog.get_logger()


@dataclass(frozen=True)
class Encoded:
    """A stored file.

    Attributes:
        output: what it is, without a URL.
        warnings: what the owner should know.
        frames_per_second: frames of the output made per second of encoding.
    """

    output: pb.Output
    warnings: tuple[pb.ExportWarning, ...]
    frames_per_second: float


@dataclass(frozen=True)
class _Made:
    """A finished and checked file on scratch, and how it came about."""

    path: Path
    facts: OutputFacts
    seconds: float
    family: pb.EncoderFamily.ValueType
    reason: str
    warnings: tuple[pb.ExportWarning, ...] = ()


class WholeEncode:
    """Makes outputs in one FFmpeg run each."""

    def __init__(
        self,
        settings: EncoderSettings,
        ffmpeg: Path,
        gateway: SourceGateway,
        storage_client: StorageClient,
        metrics: EncoderMetrics,
    ) -> None:
        self._settings = settings
        self._ffmpeg = ffmpeg
        self._gateway = gateway
        self._storage = storage_client
        self._metrics = metrics

    async def run(
        self,
        run: Run,
        user_id: str,
        source: task_pb2.TaskSource,
        work: task_pb2.WholeTask,
        upload: storage.CreateUploadRequest,
    ) -> Encoded:
        """Cut, encode, verify and store; scratch and multipart parts never stay behind.

        Raises:
            MediaError: what was wrong with the source, FFmpeg or the output.
            DomainError: STORAGE_UNAVAILABLE, SCRATCH_FULL.
        """
        with self._scratch(run.run_id) as folder:
            made = await self._make(run, user_id, source, work, folder)
            run.enter(pb.EXPORT_PHASE_UPLOADING)
            stored = await self._store(user_id, upload, made.path)
        self._metrics.bytes_written.inc(stored.size_bytes)
        return self._encoded(made, stored, work.plan)

    async def _make(
        self,
        run: Run,
        user_id: str,
        source: task_pb2.TaskSource,
        work: task_pb2.WholeTask,
        folder: Path,
    ) -> _Made:
        """Encode with the family of the task; where the GPU fails, with the CPU."""
        async with self._gateway.expose(self._storage.source_object(user_id, source)) as handle:
            try:
                try:
                    return await self._encode(run, handle, work, work.family, folder)
                except (EncoderFailed, EncodeStalled, OutputMismatch) as error:
                    if work.family != pb.ENCODER_FAMILY_NVENC:
                        raise
                    log.warning("gpu failed; the cpu encodes", problem=str(error))
                    self._metrics.fallbacks.inc()
                    reason = as_sentence(f"The GPU failed, so the CPU encoded: {error}")
                run.live.family = pb.ENCODER_FAMILY_CPU
                made = await self._encode(run, handle, work, pb.ENCODER_FAMILY_CPU, folder)
                warning = pb.ExportWarning(code=Reason.GPU_FALLBACK, message=reason)
                return replace(made, reason=reason, warnings=(warning,))
            finally:
                self._metrics.bytes_read.inc(handle.bytes_read)

    async def _encode(
        self,
        run: Run,
        handle: SourceHandle,
        work: task_pb2.WholeTask,
        family: pb.EncoderFamily.ValueType,
        folder: Path,
    ) -> _Made:
        """Run FFmpeg and check what it made."""
        run.enter(pb.EXPORT_PHASE_ENCODING)
        commands = whole_commands(
            ffmpeg=self._ffmpeg,
            url=handle.url,
            info=work.info,
            plan=work.plan,
            family=family,
            encoder_threads=self._settings.threads,
            folder=folder,
        )
        deadline = time.monotonic() + work.time_limit.ToTimedelta().total_seconds()
        started = time.monotonic()
        frames_before = 0
        for command in commands:
            command.write_scripts()
            process = FfmpegProcess(
                command.arguments,
                stall_timeout=self._settings.stall_timeout,
                time_limit=deadline - time.monotonic(),
                memory_limit=self._memory_limit(family),
                on_progress=partial(
                    run.encoded, frames_before=frames_before, rate=_rate(work.plan)
                ),
            )
            try:
                await self._watch_source(handle, process)
            finally:
                used = self._metrics.cpu_seconds.labels(pb.EncoderFamily.Name(family))
                used.inc(process.cpu_seconds)
            frames_before += command.frame_count
        seconds = time.monotonic() - started
        run.enter(pb.EXPORT_PHASE_VERIFYING)
        facts = await verify_output(commands[-1].output, timeout=self._settings.verify_timeout)
        check_output(facts, work.plan)
        return _Made(commands[-1].output, facts, seconds, family, work.family_reason)

    def _memory_limit(self, family: pb.EncoderFamily.ValueType) -> int | None:
        # A CUDA driver maps as much as it likes.
        on_gpu = family == pb.ENCODER_FAMILY_NVENC
        return None if on_gpu else self._settings.encode_memory_bytes

    async def _watch_source(self, handle: SourceHandle, process: FfmpegProcess) -> FfmpegResult:
        """Run FFmpeg, but stop as soon as the source is lost, with the true reason."""
        encoding = asyncio.create_task(process.run())
        lost = asyncio.create_task(handle.wait_failed())
        try:
            await asyncio.wait({encoding, lost}, return_when=asyncio.FIRST_COMPLETED)
            if handle.failure is not None:
                raise handle.failure
            return await encoding
        finally:
            for task in (encoding, lost):
                task.cancel()
            await asyncio.gather(encoding, lost, return_exceptions=True)

    async def _store(
        self, user_id: str, upload: storage.CreateUploadRequest, path: Path
    ) -> storage.ObjectStat:
        """Upload the file; where that is cut short, no object stays either.

        The upload may have been completed in the very moment in which the run
        was cancelled, or its answer may have been lost.
        """
        try:
            return await self._storage.upload(user_id, upload, path)
        except BaseException:
            await asyncio.shield(self._storage.discard(user_id, upload))
            raise

    @contextmanager
    def _scratch(self, run_id: str) -> Iterator[Path]:
        """Hold a private directory; a full disk is told as such."""
        folder = self._settings.own_scratch / run_id
        try:
            folder.mkdir(parents=True, mode=0o700)
            yield folder
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DomainError(
                    Reason.SCRATCH_FULL, "The encoder's scratch disk is full."
                ) from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _encoded(self, made: _Made, stored: storage.ObjectStat, plan: pb.Plan) -> Encoded:
        facts = made.facts
        family = pb.EncoderFamily.Name(made.family)
        frames_per_second = facts.frame_count / max(made.seconds, 1e-3)
        self._metrics.frame_rate.labels(family).observe(frames_per_second)
        self._metrics.speed.labels(family).observe(frames_per_second / _rate(plan))
        output = pb.Output(
            size_bytes=stored.size_bytes,
            frame_count=facts.frame_count,
            duration=duration_of(facts.duration),
            width=facts.width,
            height=facts.height,
            sha256=stored.sha256,
            encoder_family=made.family,
            encoder_name=ENCODER_NAMES[made.family],
            encoder_reason=made.reason,
        )
        return Encoded(output, made.warnings, frames_per_second)


def _rate(plan: pb.Plan) -> float:
    """Return the frames per second of the output."""
    return plan.frame_rate.numerator / plan.frame_rate.denominator
