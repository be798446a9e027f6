"""From stored parts to the finished output: nothing is encoded, only the output lies on disk."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from services.common.errors import DomainError, Reason
from services.common.frames import FrameRange, rate_of
from services.encoder.board import Run
from services.encoder.commands.codecs import PICTURES_AHEAD, joined_pictures
from services.encoder.commands.containers import MP4_FORMAT, clean_output, demuxer_of, output_file
from services.encoder.commands.cues import shown
from services.encoder.commands.extras import NO_EXTRAS, Extras
from services.encoder.commands.ffmpeg_command import FfmpegCommand, concat_script, with_head
from services.encoder.commands.job import timeline_of
from services.encoder.commands.look import look_of_joined
from services.encoder.commands.loudness import read_tag
from services.encoder.commands.options import RW_TIMEOUT_MICROSECONDS, global_options
from services.encoder.deadline import Deadline
from services.encoder.errors import (
    EncoderFailed,
    InvalidSource,
    OutputMismatch,
    PartsDiffer,
    SourceChanged,
    SourceNotFound,
    SourceUnavailable,
)
from services.encoder.inspection.output_facts import check_output
from services.encoder.metrics import EncoderMetrics
from services.encoder.scratch import scratch
from services.encoder.sources.gateway import SourceGateway, SourceObject
from services.encoder.sources.readable import unless_lost
from services.encoder.storage import StorageClient
from services.encoder.tasks.copying import Survey, check_joins, checks_of, survey
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns
from services.encoder.tasks.stills import Stills
from services.encoder.tasks.subtitles import subtitles_of_assembly
from services.encoder.tasks.whole import output_of
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

# How often parts are read that are written again, or go, while they are read.
READINGS = 5
TAGS = "sound.tags.txt"


class Assembly:
    """Joins parts."""

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
        self._metrics = metrics

    async def run(
        self,
        run: Run,
        user_id: str,
        source: task_pb2.TaskSource,
        work: task_pb2.AssembleTask,
        upload: storage.CreateUploadRequest,
    ) -> pb.Output:
        """Join, verify and store.

        Args:
            source: what the parts are of; read for subtitles alone.

        Raises:
            PartMissing: naming the parts that are not there.
            PartsDiffer: they do not join.
            MediaError, DomainError: what else was wrong.
        """
        run.enter(pb.EXPORT_PHASE_ASSEMBLING)
        deadline = Deadline.after(work.time_limit)
        with scratch(self._own_scratch, run.run_id) as folder:
            extras = await self._extras(user_id, source, work, deadline)
            command, told = await self._join(run, user_id, work, extras, folder, deadline)
            run.enter(pb.EXPORT_PHASE_VERIFYING)
            try:
                # Of a film in which every picture is a keyframe, most of them are copied ones.
                facts = await self._runs.inspect(
                    command.output, deadline, decode_keyframes=told is None
                )
                check_output(facts, work.plan, look_of_joined(work.plan))
                if told is not None:
                    await self._check_copies(work, told, command.output, folder, deadline)
            except OutputMismatch as error:
                raise PartsDiffer(error.message) from error
            if told is None and facts.keyframes_decoded < len(work.video):
                raise PartsDiffer("not every part begins with a picture that can be decoded")
            stills = await self._stills.make(run, work.plan, command.output, facts, deadline)
            run.enter(pb.EXPORT_PHASE_UPLOADING)
            loudness = None
            if work.plan.HasField("loudness_lufs"):
                loudness = read_tag((folder / TAGS).read_text())
            stored = await self._storage.store(user_id, upload, command.output)
            how = (work.family, work.family_reason, loudness)
            output = output_of(facts, stored, work.plan, *how)
            await self._stills.store(user_id, upload, stills, output)
        self._metrics.bytes_written.inc(stored.size_bytes)
        return output

    async def _check_copies(
        self,
        work: task_pb2.AssembleTask,
        told: Survey,
        output: Path,
        folder: Path,
        deadline: Deadline,
    ) -> None:
        """Look for what was copied in what has come out, and decode where it begins and ends."""
        parts = zip(work.video, told.seals, strict=True)
        if any(part.copied and seal is None for part, seal in parts):
            raise OutputMismatch("a part does not tell what was copied into it")
        checks = checks_of([part.frame_count for part in work.video], told.seals)
        await check_joins(output, checks, work.plan.frame_rate, folder, deadline)

    async def _extras(
        self,
        user_id: str,
        source: task_pb2.TaskSource,
        work: task_pb2.AssembleTask,
        deadline: Deadline,
    ) -> Extras:
        """Return what goes into the output beside pictures and sound."""
        extras = Extras.of(work.plan)
        if not work.HasField("subtitles"):
            return extras
        async with self._gateway.expose(self._storage.source_object(user_id, source)) as handle:
            try:
                subtitles = await subtitles_of_assembly(handle, work, deadline)
            finally:
                self._metrics.bytes_read.inc(handle.bytes_read)
        timeline = timeline_of(work.subtitles.info, work.plan.frame_rate)
        spans = work.subtitles.spans
        ranges = [FrameRange(span.start_frame, span.end_frame) for span in spans]
        return extras.with_subtitles(shown(subtitles.cues, ranges, timeline))

    async def _join(
        self,
        run: Run,
        user_id: str,
        work: task_pb2.AssembleTask,
        extras: Extras,
        folder: Path,
        deadline: Deadline,
    ) -> tuple[FfmpegCommand, Survey | None]:
        """Join the parts as they are stored now.

        Returns:
            The run that did; what the parts say, where some are copied.
        """
        keys = [part.key for part in work.video]
        keys += [work.audio_key] if work.audio_key else []
        for _ in range(READINGS):
            # Also says which are gone.
            parts = await self._storage.parts(user_id, keys)
            try:
                return await self._join_once(run, work, parts, extras, folder, deadline)
            except (SourceChanged, SourceNotFound):
                continue
            except DomainError as error:
                if error.reason is not Reason.OBJECT_NOT_FOUND:
                    raise
        raise SourceUnavailable("the export's parts were written again whenever they were read")

    async def _join_once(
        self,
        run: Run,
        work: task_pb2.AssembleTask,
        parts: Sequence[SourceObject],
        extras: Extras,
        folder: Path,
        deadline: Deadline,
    ) -> tuple[FfmpegCommand, Survey | None]:
        """Join the parts, the one with the sound last."""
        count = len(work.video)
        told = None
        async with AsyncExitStack() as stack:
            expose = self._gateway.expose_parts
            pictures = await stack.enter_async_context(expose(parts[:count]))
            sound = await stack.enter_async_context(expose(parts[count:]))
            if work.plan.quality == pb.QUALITY_SOURCE:
                sizes = [part.size_bytes for part in parts[:count]]
                named = list(zip(pictures.urls, sizes, strict=True))
                surveying = survey(named, work.plan.frame_rate, folder, deadline)
                try:
                    told = await unless_lost(surveying, pictures)
                except OutputMismatch as error:
                    raise PartsDiffer(error.message) from error
            command = assemble_command(
                ffmpeg=self._runs.ffmpeg,
                urls=pictures.urls,
                frame_counts=[part.frame_count for part in work.video],
                sound_url=next(iter(sound.urls), None),
                tags=work.plan.HasField("loudness_lufs"),
                plan=work.plan,
                extras=extras,
                folder=folder,
                told=told,
            )
            try:
                await self._runs.make(
                    *(run, [command], pictures, sound),
                    family=pb.ENCODER_FAMILY_CPU,
                    deadline=deadline,
                    rate=work.plan.frame_rate,
                )
            except (EncoderFailed, InvalidSource) as error:
                raise PartsDiffer(error.message) from error
            finally:
                self._metrics.bytes_read.inc(pictures.bytes_read + sound.bytes_read)
        return command, told


def assemble_command(
    *,
    ffmpeg: Path,
    urls: Sequence[str],
    frame_counts: Sequence[int],
    sound_url: str | None,
    plan: pb.Plan,
    folder: Path,
    tags: bool = False,
    told: Survey | None = None,
    extras: Extras = NO_EXTRAS,
) -> FfmpegCommand:
    """Return the run that joins parts with pictures and adds the sound, copying both.

    Args:
        urls: of the parts with pictures, in order, as the gateway serves them.
        frame_counts: of each part.
        sound_url: of the part with the sound.
        plan: frame rate, codec and format of the output.
        folder: where the script and the output go.
        tags: whether what the part with the sound says of itself is written out as TAGS.
        told: what the parts say, where some are copied.
        extras: what goes into the output beside them.
    """
    output = output_file(folder, "output", plan.format)
    rate = rate_of(plan.frame_rate)
    script = folder / "parts.ffconcat"
    timeout = f"option rw_timeout {RW_TIMEOUT_MICROSECONDS}"
    text = concat_script(urls, frame_counts, rate, timeout)
    arguments = [*global_options(ffmpeg), "-protocol_whitelist", "file,http,tcp"]
    arguments += ["-format_whitelist", f"concat,{MP4_FORMAT}"]
    if told is not None:
        text = with_head(text, told.head.name)
        # FFmpeg would put the parameters of each part between its pictures.
        arguments += ["-auto_convert", "0"]
    arguments += ["-f", "concat", "-safe", "0", "-i", str(script)]
    if sound_url is not None:
        demuxer = demuxer_of(output)
        arguments += ["-protocol_whitelist", "http,tcp", "-format_whitelist", demuxer]
        arguments += ["-rw_timeout", str(RW_TIMEOUT_MICROSECONDS), "-i", sound_url]
    arguments += extras.inputs(folder)
    ahead = PICTURES_AHEAD if told is None else told.ahead
    arguments += ["-map", "0:v:0", *joined_pictures(plan.video_codec, rate, ahead)]
    if sound_url is not None:
        arguments += ["-map", "1:a:0", "-c:a", "copy"]
    first = 1 if sound_url is None else 2
    arguments += extras.options(first)
    arguments += clean_output(output, described_by=extras.described_by(first))
    if tags:
        arguments += ["-map_metadata", "1", "-f", "ffmetadata", str(folder / TAGS)]
    return FfmpegCommand(tuple(arguments), {script: text, **extras.scripts(folder)}, output, 0)
