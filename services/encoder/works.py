"""What tasks of the queue are done with: one way for each kind of work."""

from __future__ import annotations

from services.common.errors import DomainError, Reason
from services.encoder.assembly import Assembly
from services.encoder.board import Run
from services.encoder.loudness import loudness_warnings
from services.encoder.parts import PartEncode
from services.encoder.sources import SourceProber
from services.encoder.storage import StorageClient
from services.encoder.whole import WholeEncode
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
}


class Works:
    """Does what a task says."""

    def __init__(
        self,
        prober: SourceProber,
        whole: WholeEncode,
        parts: PartEncode,
        assembly: Assembly,
        storage_client: StorageClient,
    ) -> None:
        self._prober = prober
        self._whole = whole
        self._parts = parts
        self._assembly = assembly
        self._storage = storage_client

    async def do(self, task: task_pb2.Task, run: Run) -> task_pb2.TaskSucceeded:
        """Do a task and return its result.

        Raises:
            MediaError, DomainError: why it could not be done.
        """
        user, source = task.user_id, task.source
        output = storage.ExportOutput(export_id=task.export_id, run_id=run.run_id)
        upload = storage.CreateUploadRequest(export_output=output)
        match task.WhichOneof("work"):
            case "probe":
                run.enter(pb.EXPORT_PHASE_PROBING)
                return task_pb2.TaskSucceeded(info=await self._prober.probe(user, source))
            case "whole":
                encoded = await self._whole.run(run, user, source, task.whole, upload)
                return task_pb2.TaskSucceeded(
                    output=encoded.output,
                    warnings=encoded.warnings,
                    frames_per_second=encoded.frames_per_second,
                )
            case "video":
                part = await self._parts.video(run, user, source, task.video)
                return task_pb2.TaskSucceeded(
                    part=part.stored,
                    warnings=part.warnings,
                    frames_per_second=part.frames_per_second,
                )
            case "audio":
                part = await self._parts.audio(run, user, source, task.audio)
                return task_pb2.TaskSucceeded(part=part.stored, warnings=part.warnings)
            case "assemble":
                return _delivered(await self._assembly.run(run, user, task.assemble, upload))
            case "copy":
                return await self._copy(task, run, output)
            case _:
                raise DomainError(
                    Reason.INTERNAL, "The encoder is older than the API and cannot do this yet."
                )

    async def _copy(
        self, task: task_pb2.Task, run: Run, target: storage.ExportOutput
    ) -> task_pb2.TaskSucceeded:
        """Take over the file of an identical export."""
        run.enter(pb.EXPORT_PHASE_UPLOADING)
        found = storage.ExportOutput(export_id=task.copy.export_id, run_id=task.copy.run_id)
        await self._storage.copy(
            task.user_id,
            storage.ObjectRef(export_output=found),
            storage.ObjectRef(export_output=target),
        )
        return _delivered(task.copy.output)


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
        live.frame_count, live.family = task.whole.plan.frame_count, task.whole.family
    elif work == "video":
        chunk = task.video.chunk
        live.frame_count, live.family = chunk.end_frame - chunk.start_frame, chunk.family
    live.start_time.GetCurrentTime()
    return live
