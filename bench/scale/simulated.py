"""What stands in for the outside of an encoder: FFmpeg, the probe and, if wanted, storage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.scale.pace import OBJECT_BYTES, facts_of, ffmpeg_seconds, frames_of, rate_of
from bench.scale.source import source_info
from bench.scale.spans import Span
from services.common.times import timestamp_of
from services.encoder.board import Run
from services.encoder.commands.ffmpeg_command import FfmpegCommand
from services.encoder.deadline import Deadline
from services.encoder.ffmpeg.process import Progress
from services.encoder.inspection.output_facts import OutputFacts
from services.encoder.sources.gateway import SourceHandle, SourceObject
from services.encoder.sources.prober import SourceProber
from services.encoder.sources.readable import Readable
from services.encoder.storage import StorageClient
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns, Made, Order
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

# What the present run is about; FFmpeg would read it from its command line.
TASK: ContextVar[task_pb2.Task] = ContextVar("task")
SPAN: ContextVar[Span] = ContextVar("span")

# As often as FFmpeg says how far it is.
PROGRESS_SECONDS = 0.5


class SimulatedProber(SourceProber):
    """Knows one source."""

    def __init__(self) -> None:
        """Nothing is needed to know it."""

    async def probe(self, user_id: str, source: task_pb2.TaskSource) -> pb.SourceInfo:
        """Return what every source is taken for."""
        return source_info(source)


class SimulatedRuns(FfmpegRuns):
    """Runs that take their time and leave a tiny file."""

    def use(self, storage_client: StorageClient) -> None:
        """Have sources signed by it, as reading them would."""
        self._storage = storage_client

    async def fill(self, run: Run, order: Order, source: SourceHandle, folder: Path) -> Made:
        """Make a file, as far as anybody can tell."""
        task = TASK.get()
        run.enter(pb.EXPORT_PHASE_ENCODING)
        await self._storage.source_object(task.user_id, task.source).sign()
        seconds = await self._take_time(run)
        run.enter(pb.EXPORT_PHASE_VERIFYING)
        facts = facts_of(task)
        order.check(facts)
        path = folder / "output.mp4"
        _write(path, run)
        return Made(path, facts, seconds)

    async def make(
        self,
        run: Run,
        commands: Sequence[FfmpegCommand],
        *readables: Readable,
        family: pb.EncoderFamily.ValueType,
        deadline: Deadline,
        rate: pb.Rational,
    ) -> float:
        """Join parts, as far as anybody can tell."""
        seconds = await self._take_time(run)
        _write(commands[-1].output, run)
        return seconds

    async def inspect(self, path: Path, *, decode_keyframes: bool = False) -> OutputFacts:
        """Return what was planned."""
        return facts_of(TASK.get())

    async def _take_time(self, run: Run) -> float:
        task = TASK.get()
        seconds = ffmpeg_seconds(task)
        SPAN.get().ffmpeg = seconds
        frames, rate = frames_of(task), rate_of(task)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (left := began + seconds - loop.time()) > 0:
            await asyncio.sleep(min(PROGRESS_SECONDS, left))
            done = min(1.0, (loop.time() - began) / seconds)
            progress = Progress(frame=int(frames * done), frames_per_second=frames / seconds)
            run.encoded(progress, frames_before=0, rate=float(rate))
        return seconds


def _write(path: Path, run: Run) -> None:
    path.write_bytes(run.run_id.encode().ljust(OBJECT_BYTES))


class StorageAside(StorageClient):
    """A StorageService that answers at once and keeps nothing, to see what else is slow."""

    async def stat(
        self, user_id: str, references: Sequence[storage.ObjectRef]
    ) -> list[storage.ObjectStat]:
        """Return that nothing is there: parts are made."""
        return [storage.ObjectStat(object=reference) for reference in references]

    async def parts(self, user_id: str, keys: Sequence[bytes]) -> list[SourceObject]:
        """Return every part."""
        return [self._part(user_id, _stat(storage.ObjectRef(cache_key=key.hex()))) for key in keys]

    async def upload(
        self, user_id: str, request: storage.CreateUploadRequest, path: Path
    ) -> storage.ObjectStat:
        """Forget a file."""
        reference = storage.ObjectRef(cache_key=request.cache_key)
        if request.HasField("export_output"):
            reference = storage.ObjectRef(export_output=request.export_output)
        return _stat(reference)

    async def sign(
        self,
        user_id: str,
        reference: storage.ObjectRef,
        lifetime: timedelta,
        *,
        file_name: str = "",
    ) -> storage.SignDownloadResponse:
        """Return a URL that nobody reads."""
        expire_time = timestamp_of(datetime.now(UTC) + lifetime)
        return storage.SignDownloadResponse(url="http://127.0.0.1/", expire_time=expire_time)


def _stat(reference: storage.ObjectRef) -> storage.ObjectStat:
    return storage.ObjectStat(
        object=reference,
        exists=True,
        size_bytes=OBJECT_BYTES,
        etag="simulated",
        sha256="0" * 64,
    )
