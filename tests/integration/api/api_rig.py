"""The stores on a real database, and exports, tasks and events to feed them with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
from google.protobuf.duration_pb2 import Duration
from psycopg.rows import dict_row

from services.api.states import ExportState, TaskState
from services.api.store import (
    BacklogStore,
    Database,
    ExportStore,
    Housekeeping,
    ReuseStore,
    TaskStore,
)
from services.api.store.records import (
    ExportRecord,
    NewExport,
    NewTask,
    Quotas,
    Submission,
    TaskRecord,
)
from services.api.store.tasks import Applied
from services.api.work import Order, measure_task, probe_task, whole_task
from services.common import ids
from services.common.content_key import RECIPE_VERSION
from services.common.families import choose_family
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

NO_QUOTAS = Quotas(exports_per_hour=0, running_per_user=0, queue_limit=0)
RETENTION = timedelta(days=30)
SOURCE = pb.Source(video_id="vid_" + "0" * 32)
INFO = pb.SourceInfo(
    container="mov,mp4",
    etag="etag",
    video=pb.VideoStream(
        frame_rate=pb.Rational(numerator=25, denominator=1),
        frame_count=100,
        width=1280,
        height=720,
    ),
)
PLAN = pb.Plan(
    segments=[pb.PlannedSegment(start_frame=0, end_frame=100)],
    frame_rate=pb.Rational(numerator=25, denominator=1),
    frame_count=100,
    duration=Duration(seconds=4),
    width=1280,
    height=720,
    resolution=pb.RESOLUTION_720P,
    quality=pb.QUALITY_MEDIUM,
)
OUTPUT = pb.Output(
    size_bytes=12345,
    frame_count=100,
    sha256="0" * 64,
    encoder_family=pb.ENCODER_FAMILY_CPU,
    encoder_name="libx264",
)


class Rig:
    """The stores of one API replica, and a look behind them."""

    def __init__(self, url: str, *, timeout: float = 5.0) -> None:
        self.url = url
        self.database = Database(url, pool_size=10, timeout=timeout)
        self.exports = ExportStore(self.database)
        self.tasks = TaskStore(self.database)
        self.reuse = ReuseStore(self.database)
        self.backlog = BacklogStore(self.database)
        self.housekeeping = Housekeeping(self.database)
        self._behind: psycopg.AsyncConnection[dict[str, Any]] | None = None

    async def close(self) -> None:
        """Close every connection."""
        await self.database.close()
        if self._behind is not None:
            await self._behind.close()

    async def sql(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Run one statement, past the stores."""
        try:
            connection = await self._connection()
            cursor = await connection.execute(query, parameters)
        except psycopg.OperationalError:
            # Postgres was started anew since.
            connection = await self._connection()
            cursor = await connection.execute(query, parameters)
        return await cursor.fetchall() if cursor.description else []

    async def _connection(self) -> psycopg.AsyncConnection[dict[str, Any]]:
        if self._behind is None or self._behind.closed:
            self._behind = await psycopg.AsyncConnection.connect(
                self.url, autocommit=True, row_factory=dict_row
            )
        return self._behind

    async def value(self, query: str, *parameters: object) -> Any:
        """Return the one value that a query gives."""
        [row] = await self.sql(query, *parameters)
        [value] = row.values()
        return value

    async def create(
        self,
        user: str = "anna",
        *,
        probe: bool = False,
        request_id: str | None = None,
        body: bytes = b"body",
        quotas: Quotas = NO_QUOTAS,
        priority: int = 0,
        source: pb.Source = SOURCE,
        lane: Lane = Lane.CPU,
        plan: pb.Plan = PLAN,
        segments: Sequence[pb.Segment] = (),
        measured: bool = False,
    ) -> Case:
        """Store an export that waits for its first task: a probe, or the whole output.

        Args:
            measured: whether the output is compared with its source at last.
        """
        export_id = ids.export_id()
        version = task_pb2.TaskSource(source=source, etag="etag", size_bytes=1000)
        others: list[NewTask] = []
        if probe:
            task = probe_task(export_id, user, version)
        else:
            gpu = lane is Lane.GPU
            choice = choose_family(pb.ENCODER_PREFERENCE_AUTO, gpu_live=gpu)
            order = Order(export_id, user, version, segments, pb.ExportSettings())
            task = whole_task(order, INFO, plan, choice)
            others = [measure_task(order, INFO, plan)] if measured else []
        new = NewExport(
            id=export_id,
            user_id=user,
            source=source,
            source_etag="etag",
            source_size_bytes=1000,
            segments=segments,
            settings=pb.ExportSettings(),
            priority=priority,
            plan=None if probe else plan,
        )
        submission = Submission(request_id, body)
        record = await self.exports.create(new, [task, *others], submission, quotas)
        return Case(self, record, task)

    async def dispatch(self, *lanes: Lane, window: int = 1000) -> list[str]:
        """Mark what is due in lanes as published; return the tasks in their order.

        Without any lane, of an export on the CPU: its pictures, then the rest.
        """
        sent: list[str] = []

        async def publish(due: Sequence[TaskRecord]) -> list[str]:
            sent.extend(task.id for task in due)
            return [task.id for task in due]

        for lane in lanes or (Lane.CPU, Lane.MUX):
            before = len(sent)
            assert await self.tasks.dispatch(lane, window, publish) == len(sent) - before
        return sent

    async def deletions(self) -> list[tuple[str, str]]:
        """Return owner and run of every object that is to be deleted, each once."""
        rows = await self.sql("SELECT user_id, object FROM object_deletions")
        return sorted({(row["user_id"], row["object"]["export_output"]["run_id"]) for row in rows})


class Case:
    """One stored export with its first task, and what encoders say of it."""

    def __init__(self, rig: Rig, record: ExportRecord, task: NewTask) -> None:
        self.rig = rig
        self.record = record
        self.task = task
        self.id = record.id
        self.user = record.user_id

    def event(
        self, run: str, *, attempt: int = 1, task: str | None = None, **kind: Any
    ) -> task_pb2.TaskEvent:
        """Return an event of a run of the task."""
        return task_pb2.TaskEvent(
            task_id=task or self.task.id,
            attempt=attempt,
            run_id=run,
            export_id=self.id,
            encoder_id="encoder-1",
            user_id=self.user,
            **kind,
        )

    async def started(self, run: str = "run_1", *, attempt: int = 1) -> Applied:
        """Apply that a run has begun."""
        begun = task_pb2.TaskStarted(delivery_count=1)
        return await self.rig.tasks.started(self.event(run, attempt=attempt, started=begun))

    async def released(self, run: str = "run_1", *, attempt: int = 1) -> Applied:
        """Apply that a run was handed back."""
        released = task_pb2.TaskReleased()
        return await self.rig.tasks.released(self.event(run, attempt=attempt, released=released))

    async def failed(
        self, run: str = "run_1", *, attempt: int = 1, after: timedelta = timedelta(0)
    ) -> Applied:
        """Apply that a run failed and its task is tried again."""
        failed = task_pb2.TaskFailed(code="ENCODER_FAILED", message="Broken pipe.")
        event = self.event(run, attempt=attempt, failed=failed)
        return await self.rig.tasks.failed(event, lambda _: after)

    async def failed_for_good(
        self, run: str = "run_1", *, attempt: int = 1, retryable: bool = True
    ) -> Applied:
        """Apply that a run failed and the export with it."""
        failed = task_pb2.TaskFailed(code="ENCODER_FAILED", message="Broken pipe.")
        error = pb.ExportError(code="ENCODER_FAILED", message="Broken pipe.", retryable=retryable)
        event = self.event(run, attempt=attempt, failed=failed)
        return await self.rig.tasks.failed(event, lambda _: error)

    async def succeeded(
        self,
        run: str = "run_1",
        *,
        attempt: int = 1,
        fps: float = 0,
        seconds: float = 0,
        warnings: Sequence[pb.ExportWarning] = (),
    ) -> Applied:
        """Apply that a run has made the output."""
        done = task_pb2.TaskSucceeded(
            output=OUTPUT,
            frames_per_second=fps,
            warnings=warnings,
            recipe_version=RECIPE_VERSION,
        )
        done.run_time.FromTimedelta(timedelta(seconds=seconds))
        event = self.event(run, attempt=attempt, succeeded=done)
        return await self.rig.tasks.output_succeeded(event, retention=RETENTION)

    async def begin(self, run: str = "run_1") -> None:
        """Dispatch the task and let a run begin."""
        await self.rig.dispatch(self.task.lane)
        await self.started(run)

    async def complete(self, run: str = "run_1") -> None:
        """Let a run make the output."""
        await self.begin(run)
        assert (await self.succeeded(run)).changed

    async def fail(self, run: str = "run_1", *, retryable: bool = True) -> None:
        """Let a run fail for good."""
        await self.begin(run)
        assert (await self.failed_for_good(run, retryable=retryable)).changed

    async def now(self) -> ExportRecord:
        """Return the export as it is stored."""
        return await self.rig.exports.get(self.id, self.user)

    async def state(self) -> ExportState:
        """Return the state of the export."""
        return (await self.now()).state

    async def task_row(self) -> dict[str, Any]:
        """Return the row of the task."""
        [row] = await self.rig.sql("SELECT * FROM tasks WHERE id = %s", self.task.id)
        return row

    async def put(
        self,
        *,
        export: ExportState | None = None,
        task: TaskState | None = None,
        created_at: datetime | None = None,
    ) -> None:
        """Set states as no way leads to them."""
        if export is not None:
            await self.rig.sql("UPDATE exports SET state = %s WHERE id = %s", export, self.id)
        if task is not None:
            await self.rig.sql("UPDATE tasks SET state = %s WHERE id = %s", task, self.task.id)
        if created_at is not None:
            await self.rig.sql(
                "UPDATE exports SET created_at = %s WHERE id = %s", created_at, self.id
            )
