"""What tasks of the queue are done with: one way for each kind of work."""

from __future__ import annotations

from services.common.content_key import RECIPE_VERSION
from services.common.errors import DomainError, Reason
from services.common.planner import frames_to_make
from services.common.stills import files_of
from services.encoder.board import Run
from services.encoder.commands.loudness import loudness_warnings
from services.encoder.sources.prober import SourceProber
from services.encoder.storage import StorageClient
from services.encoder.tasks.assembly import Assembly
from services.encoder.tasks.measuring import Measuring
from services.encoder.tasks.parts import PartEncode
from services.encoder.tasks.whole import WholeEncode
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

KINDS = {
    "probe": pb.TASK_KIND_PROBE,
    "whole": pb.TASK_KIND_WHOLE,
    "video": pb.TASK_KIND_VIDEO,
    "audio": pb.TASK_KIND_AUDIO,
    "assemble": pb.TASK_KIND_ASSEMBLE,
    "copy": pb.TASK_KIND_COPY,
    "measure": pb.TASK_KIND_MEASURE,
}


class Works:
    """Does what a task says."""

    def __init__(
        self,
        prober: SourceProber,
        whole: WholeEncode,
        parts: PartEncode,
        assembly: Assembly,
        measuring: Measuring,
        storage_client: StorageClient,
    ) -> None:
        self._prober = prober
        self._whole = whole
        self._parts = parts
        self._assembly = assembly
        self._measuring = measuring
        self._storage = storage_client

    async def do(self, task: task_pb2.Task, run: Run) -> task_pb2.TaskSucceeded:
        """Do a task and return its result.

        Raises:
            MediaError, DomainError: why it could not be done.
        """
        user, source = task.user_id, task.source
        target = storage.ExportOutput(
            export_id=task.export_id, run_id=run.run_id, format=_format_of(task)
        )
        upload = storage.CreateUploadRequest(export_output=target)
        done = task_pb2.TaskSucceeded()
        match task.WhichOneof("work"):
            case "probe":
                run.enter(pb.EXPORT_PHASE_PROBING)
                done.info.CopyFrom(await self._prober.probe(user, source))
            case "whole":
                encoded = await self._whole.run(run, user, source, task.whole, upload)
                done.output.CopyFrom(encoded.output)
                done.warnings.extend(encoded.warnings)
                done.frames_per_second = encoded.frames_per_second
            case "video":
                part = await self._parts.video(run, user, source, task.video)
                done.part.CopyFrom(part.stored)
                done.warnings.extend(part.warnings)
                done.frames_per_second = part.frames_per_second
            case "audio":
                part = await self._parts.audio(run, user, source, task.audio)
                done.part.CopyFrom(part.stored)
                done.warnings.extend(part.warnings)
            case "assemble":
                output = await self._assembly.run(run, user, source, task.assemble, upload)
                done = _delivered(output)
            case "copy":
                done = await self._copy(task, run, target)
            case "measure":
                done.quality.CopyFrom(await self._measuring.run(run, task))
            case _:
                raise DomainError(
                    Reason.INTERNAL, "The encoder is older than the API and cannot do this yet."
                )
        done.recipe_version = RECIPE_VERSION
        return done

    async def _copy(
        self, task: task_pb2.Task, run: Run, target: storage.ExportOutput
    ) -> task_pb2.TaskSucceeded:
        """Take over the file of an identical export."""
        run.enter(pb.EXPORT_PHASE_UPLOADING)
        found = storage.ExportOutput(
            export_id=task.copy.export_id, run_id=task.copy.run_id, format=task.copy.format
        )
        for name in ("", *files_of(task.copy.output)):
            refs = [storage.ObjectRef(export_output=each) for each in (found, target)]
            for ref in refs:
                ref.export_output.file = name
            await self._storage.copy(task.user_id, *refs)
        return _delivered(task.copy.output)


def _format_of(task: task_pb2.Task) -> pb.Format.ValueType:
    """Return the format of the file that a task makes, if it makes one."""
    return {
        "whole": task.whole.plan.format,
        "assemble": task.assemble.plan.format,
        "copy": task.copy.format,
    }.get(task.WhichOneof("work") or "", pb.FORMAT_UNSPECIFIED)


def _delivered(output: pb.Output) -> task_pb2.TaskSucceeded:
    return task_pb2.TaskSucceeded(output=output, warnings=loudness_warnings(output))


def live_of(task: task_pb2.Task) -> pb.RunningTask:
    """Return a task as its progress shows it from the start."""
    work = task.WhichOneof("work")
    live = pb.RunningTask(
        task_id=task.task_id,
        export_id=task.export_id,
        kind=KINDS.get(work or "", pb.TASK_KIND_UNSPECIFIED),
    )
    if work == "whole":
        live.frame_count, live.family = frames_to_make(task.whole.plan), task.whole.family
    elif work == "video":
        chunk = task.video.chunk
        live.family = chunk.family
        if not chunk.copied:
            live.frame_count = chunk.end_frame - chunk.start_frame
    live.start_time.GetCurrentTime()
    return live
