"""A whole encode: from a source at one version to a verified, stored file.

Used by queued tasks and by direct Encode calls alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import structlog

from services.common.codecs import has_pictures
from services.common.errors import Reason, as_sentence
from services.common.frames import joined, rate_of
from services.common.planner import duration_of
from services.encoder.board import Run
from services.encoder.commands.builder import extras_of, whole_commands
from services.encoder.commands.codecs import SOUND_ENCODER, encoder_name
from services.encoder.commands.cues import Cues
from services.encoder.commands.filters import samples_of
from services.encoder.commands.look import look_of
from services.encoder.commands.loudness import loudness_warnings
from services.encoder.deadline import Deadline
from services.encoder.errors import EncoderFailed, EncodeStalled, OutputMismatch
from services.encoder.inspection.output_facts import OutputFacts, check_output, verification_of
from services.encoder.metrics import EncoderMetrics
from services.encoder.scratch import scratch
from services.encoder.sources.gateway import SourceGateway
from services.encoder.storage import StorageClient
from services.encoder.tasks.damage import Wanted
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns, Level, Made, Order
from services.encoder.tasks.stills import Stills
from services.encoder.tasks.subtitles import subtitles_of_plan
from services.encoder.tasks.watermark import Watermarks
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
class _Result:
    """A finished file, and how it came about."""

    made: Made
    family: pb.EncoderFamily.ValueType
    reason: str
    warnings: tuple[pb.ExportWarning, ...] = ()


class WholeEncode:
    """Makes outputs in one FFmpeg run each."""

    def __init__(
        self,
        own_scratch: Path,
        runs: FfmpegRuns,
        gateway: SourceGateway,
        storage_client: StorageClient,
        metrics: EncoderMetrics,
    ) -> None:
        self._own_scratch = own_scratch
        self._runs = runs
        self._gateway = gateway
        self._storage = storage_client
        self._stills = Stills(runs, storage_client)
        self._watermarks = Watermarks(runs, gateway, storage_client)
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
        with scratch(self._own_scratch, run.run_id) as folder:
            deadline = Deadline.after(work.time_limit)
            result = await self._make(run, user_id, source, work, deadline, folder)
            made = result.made
            stills = await self._stills.make(run, work.plan, made.path, made.facts, deadline)
            run.enter(pb.EXPORT_PHASE_UPLOADING)
            stored = await self._storage.store(user_id, upload, made.path)
            how = (result.family, result.reason, made.loudness)
            output = output_of(made.facts, stored, work.plan, *how)
            await self._stills.store(user_id, upload, stills, output)
        self._metrics.bytes_written.inc(stored.size_bytes)
        frames_per_second = made.facts.frame_count / max(made.seconds, 1e-3)
        if made.facts.frame_count:
            self._metrics.encoded(result.family, frames_per_second, work.plan.frame_rate)
        damage = made.warnings(work.plan.frame_rate)
        warnings = (*result.warnings, *damage, *loudness_warnings(output))
        return Encoded(output, warnings, frames_per_second)

    async def _make(
        self,
        run: Run,
        user_id: str,
        source: task_pb2.TaskSource,
        work: task_pb2.WholeTask,
        deadline: Deadline,
        folder: Path,
    ) -> _Result:
        """Encode with the task's family; on the CPU where the GPU fails."""
        async with self._gateway.expose(self._storage.source_object(user_id, source)) as handle:
            try:
                await self._watermarks.make(run, user_id, work.plan, folder, deadline)
                subtitles = await subtitles_of_plan(handle, work.info, work.plan, deadline)
                try:
                    order = order_of(work, work.family, deadline, subtitles)
                    made = await self._runs.fill(run, order, handle, folder)
                    return _Result(made, work.family, work.family_reason)
                except (EncoderFailed, EncodeStalled, OutputMismatch) as error:
                    if work.family != pb.ENCODER_FAMILY_NVENC:
                        raise
                    log.warning("gpu failed; the cpu encodes", problem=str(error))
                    self._metrics.fallbacks.inc()
                    reason = as_sentence(f"The GPU failed, so the CPU encoded: {error}")
                run.live.family = cpu = pb.ENCODER_FAMILY_CPU
                order = order_of(work, cpu, deadline, subtitles)
                made = await self._runs.fill(run, order, handle, folder)
                warning = pb.ExportWarning(code=Reason.GPU_FALLBACK, message=reason)
                return _Result(made, cpu, reason, (warning,))
            finally:
                self._metrics.bytes_read.inc(handle.bytes_read)


def order_of(
    work: task_pb2.WholeTask,
    family: pb.EncoderFamily.ValueType,
    deadline: Deadline,
    subtitles: Cues | None = None,
) -> Order:
    """Return what the file of a task is made of."""
    pictures = has_pictures(work.plan.format)
    look = look_of(work.info.video, work.plan) if pictures else None
    return Order(
        commands=lambda site: whole_commands(
            site=site, info=work.info, plan=work.plan, family=family, subtitles=subtitles
        ),
        check=lambda facts: check_output(facts, work.plan, look),
        family=family,
        rate=work.plan.frame_rate,
        deadline=deadline,
        pictures=pictures,
        level=_level(work, subtitles),
        wanted=_wanted(work) if work.tolerate_damage else None,
    )


def _wanted(work: task_pb2.WholeTask) -> Wanted:
    plan = work.plan
    return Wanted(
        *(work.info, plan.frame_rate, joined(plan.segments)),
        pictures=has_pictures(plan.format),
        sound=plan.has_audio,
    )


def _level(work: task_pb2.WholeTask, subtitles: Cues | None) -> Level | None:
    plan = work.plan
    if not plan.HasField("loudness_lufs"):
        return None
    rate = rate_of(plan.frame_rate)
    samples = samples_of(plan.frame_count, rate)
    pictures = plan.video_codec if has_pictures(plan.format) else None
    extras = extras_of(work.info, plan, subtitles)
    return Level(plan.loudness_lufs, samples, plan.format, pictures, extras=extras)


def output_of(
    facts: OutputFacts,
    stored: storage.ObjectStat,
    plan: pb.Plan,
    family: pb.EncoderFamily.ValueType,
    reason: str,
    loudness: pb.Loudness | None = None,
) -> pb.Output:
    """Return what a stored and checked file is, without a URL."""
    pictures = has_pictures(plan.format)
    length = facts.duration if pictures else facts.audio_duration
    return pb.Output(
        size_bytes=stored.size_bytes,
        frame_count=facts.frame_count,
        duration=duration_of(length or Fraction(0)),
        width=facts.width,
        height=facts.height,
        sha256=stored.sha256,
        encoder_family=family,
        encoder_name=encoder_name(family, plan.video_codec) if pictures else SOUND_ENCODER,
        encoder_reason=reason,
        loudness=loudness,
        verification=verification_of(facts, plan),
    )
