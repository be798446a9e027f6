"""Compares the finished file of an export with its source."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from services.encoder.board import Run
from services.encoder.commands.ffmpeg_command import Site
from services.encoder.commands.quality import Side, model_of, quality_commands, read_quality
from services.encoder.deadline import Deadline
from services.encoder.metrics import EncoderMetrics
from services.encoder.scratch import scratch
from services.encoder.sources.gateway import SourceGateway
from services.encoder.sources.prober import SourceProber
from services.encoder.storage import StorageClient
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2


class Measuring:
    """Measures quality."""

    def __init__(
        self,
        own_scratch: Path,
        runs: FfmpegRuns,
        gateway: SourceGateway,
        storage_client: StorageClient,
        metrics: EncoderMetrics,
        prober: SourceProber,
    ) -> None:
        self._own_scratch = own_scratch
        self._runs = runs
        self._gateway = gateway
        self._storage = storage_client
        self._metrics = metrics
        self._prober = prober

    async def run(self, run: Run, task: task_pb2.Task) -> pb.VideoQuality:
        """Compare.

        Raises:
            MediaError, DomainError: why that failed.
        """
        run.enter(pb.EXPORT_PHASE_VERIFYING)
        user, work = task.user_id, task.measure
        made = storage.ExportOutput(
            export_id=task.export_id, run_id=work.run_id, format=work.plan.format
        )
        output = await self._storage.output_object(user, made)
        info = await self._prober.examine(output)
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(scratch(self._own_scratch, run.run_id))
            expose = self._gateway.expose
            source = self._storage.source_object(user, task.source)
            wanted = await stack.enter_async_context(expose(source))
            finished = await stack.enter_async_context(expose(output))
            site = Site(self._runs.ffmpeg, wanted.url, self._runs.threads, folder)
            commands = quality_commands(site, Side(finished.url, info), work)
            try:
                await self._runs.make(
                    *(run, commands, wanted, finished),
                    family=pb.ENCODER_FAMILY_CPU,
                    deadline=Deadline.after(work.time_limit),
                    rate=work.plan.frame_rate,
                    told=run.encoded,
                )
            finally:
                self._metrics.bytes_read.inc(wanted.bytes_read + finished.bytes_read)
            logs = [command.output.read_text() for command in commands]
        counts = [command.frame_count for command in commands]
        return read_quality(logs, counts, model_of(work.plan))
