"""Tasks: dispatching them, and applying what encoders say of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import encode_speeds, exports, probes, tasks
from services.api.states import (
    ACTIVE_EXPORTS,
    ACTIVE_TASKS,
    IN_FLIGHT_TASKS,
    ExportState,
    TaskState,
    export_sources,
    task_sources,
)
from services.api.store.database import Database
from services.api.store.exports import end_export, end_tasks, insert_task, select_exports
from services.api.store.garbage import discard, discard_run_objects, output_of
from services.api.store.knowledge import keep_probe, learn_speed
from services.api.store.progress import Progress, keep_frames, lock_running, set_progress
from services.api.store.records import (
    ExportRecord,
    NewTask,
    TaskRecord,
    from_json,
    source_key,
    to_json,
)
from services.api.store.runs import begin_run, end_run, is_winner, unfinished_runs
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

Publish = Callable[[Sequence[TaskRecord]], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying an event has led to.

    Attributes:
        changed: whether the export's row has changed.
        stop_runs: runs that are to stop: their task is decided, or another
            attempt has taken over.
        stop_tasks: tasks that may be running and are no longer wanted.
    """

    changed: bool = False
    stop_runs: tuple[str, ...] = ()
    stop_tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """What a probe has led to: a plan, the task that carries it out, what the owner should know."""

    plan: pb.Plan
    task: NewTask
    warnings: tuple[pb.ExportWarning, ...] = ()


class TaskStore:
    """What happens to tasks; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def dispatch(self, lane: Lane, window: int, publish: Publish) -> int:
        """Publish due tasks of a lane until `window` are in flight; return how many.

        Fair between users: fewest in flight first, then age; of one user's by priority.
        A task becomes DISPATCHED in the same transaction, after JetStream has
        stored it; if that transaction is lost, the task is published again
        under the same message id, and JetStream drops it.

        Args:
            publish: sends the tasks, each with its new attempt, and returns
                the ids of those that are stored for sure.
        """
        async with self._database.transaction() as connection:
            in_flight = (
                await connection.execute(
                    select(func.count())
                    .select_from(tasks)
                    .where(tasks.c.lane == lane, tasks.c.state.in_(IN_FLIGHT_TASKS))
                )
            ).scalar_one()
            if in_flight >= window:
                return 0
            due = await _lock_due(connection, lane, window - in_flight)
            if not due:
                return 0
            stored = await publish(due)
            await connection.execute(
                update(tasks)
                .where(tasks.c.id.in_(stored))
                .values(
                    state=TaskState.DISPATCHED,
                    attempt=tasks.c.attempt + 1,
                    dispatched_at=func.now(),
                    seen_at=func.now(),
                )
            )
            return len(stored)

    async def started(self, event: task_pb2.TaskEvent) -> Applied:
        """Apply that a run has begun."""
        async with self._database.transaction() as connection:
            task = await _lock_task(connection, event)
            if task is None:
                return Applied(stop_runs=(event.run_id,))
            begun = await begin_run(connection, event)
            if task.state not in ACTIVE_TASKS or event.attempt < task.attempt:
                return Applied(stop_runs=(event.run_id,))
            if not begun:
                return Applied()
            await connection.execute(
                update(tasks)
                .where(tasks.c.id == task.id, tasks.c.state.in_(task_sources(TaskState.RUNNING)))
                .values(state=TaskState.RUNNING, attempt=event.attempt, seen_at=func.now())
            )
            await _set_processing(connection, task)
            return Applied(changed=True)

    async def released(self, event: task_pb2.TaskEvent) -> Applied:
        """Apply that a run was handed back undone: the task is due again at once."""
        async with self._database.transaction() as connection:
            task = await _lock_task(connection, event)
            if task is None or not await _ends_present_attempt(connection, event, task, "RELEASED"):
                return Applied()
            await _make_pending(connection, task, timedelta(0), failures=task.failures)
            return Applied(changed=True)

    async def failed(
        self, event: task_pb2.TaskEvent, decide: Callable[[int], timedelta | pb.ExportError]
    ) -> Applied:
        """Apply that a run failed: the task is tried again, or the export fails with it.

        Args:
            decide: pure; from the failures of the task before this one to the pause
                before it is tried again, or the error that the export fails with.
        """
        async with self._database.transaction() as connection:
            task = await _lock_task(connection, event)
            if task is None or not await _ends_present_attempt(connection, event, task, "FAILED"):
                return Applied()
            verdict = decide(task.failures)
            if isinstance(verdict, timedelta):
                await _make_pending(connection, task, verdict, failures=task.failures + 1)
                return Applied(changed=True)
            await _finish_task(connection, task.id, TaskState.FAILED)
            return await _fail_export(connection, task, verdict)

    async def probe_succeeded(
        self,
        event: task_pb2.TaskEvent,
        plan_next: Callable[[ExportRecord], Planned | pb.ExportError],
    ) -> Applied:
        """Apply a probe: keep it, and plan the export with it.

        Args:
            plan_next: pure; returns what comes next, or the error that the
                export fails with.
        """
        info = event.succeeded.info
        async with self._database.transaction() as connection:
            task = await _lock_task(connection, event)
            if task is None:
                return Applied()
            first = await end_run(connection, event, "SUCCEEDED")
            if not first or task.state not in ACTIVE_TASKS:
                return Applied()
            await _finish_task(connection, task.id, TaskState.SUCCEEDED)
            record = await _lock_export(connection, task.export_id)
            await keep_probe(connection, source_key(record.user_id, record.source), info)
            if record.state not in ACTIVE_EXPORTS:
                return Applied()
            planned = plan_next(record)
            if isinstance(planned, pb.ExportError):
                await _set_processing(connection, task)
                return await _fail_export(connection, task, planned)
            await connection.execute(
                update(exports)
                .where(exports.c.id == record.id)
                .values(
                    plan=to_json(planned.plan),
                    warnings=[to_json(item) for item in (*record.warnings, *planned.warnings)],
                    phase="WAITING",
                    updated_at=func.now(),
                )
            )
            await insert_task(connection, record.id, record.user_id, record.priority, planned.task)
            return Applied(changed=True)

    async def whole_succeeded(self, event: task_pb2.TaskEvent, *, retention: timedelta) -> Applied:
        """Apply a finished file: the first result wins, any other is removed."""
        output = event.succeeded.output
        async with self._database.transaction() as connection:
            task = await _lock_task(connection, event)
            # A run whose objects are being deleted has ended too: its word comes too late.
            first = task is not None and await end_run(connection, event, "SUCCEEDED")
            if task is None or not first or task.state not in ACTIVE_TASKS:
                # The winner's own event, delivered again, changes nothing.
                if not await is_winner(connection, event):
                    await discard(
                        connection, [(event.user_id, output_of(event.export_id, event.run_id))]
                    )
                return Applied()
            await _finish_task(connection, task.id, TaskState.SUCCEEDED, frames_done=task.frames)
            await _set_processing(connection, task)
            record = await _lock_export(connection, task.export_id)
            completed = await end_export(
                connection,
                record.id,
                ExportState.COMPLETED,
                progress=100.0,
                output=to_json(output),
                output_run_id=event.run_id,
                warnings=[
                    to_json(warning) for warning in (*record.warnings, *event.succeeded.warnings)
                ],
                expires_at=func.now() + retention,
            )
            keep = event.run_id if completed else None
            others = await unfinished_runs(connection, task.id)
            await discard_run_objects(connection, record.id, keep_run_id=keep)
            if completed and record.plan is not None:
                await learn_speed(connection, record.plan, event.succeeded)
            return Applied(changed=True, stop_runs=others)

    async def progressed(self, updates: Sequence[Progress]) -> tuple[list[str], list[str]]:
        """Keep how far runs are; return exports that moved, and runs that are to stop."""
        if not updates:
            return [], []
        async with self._database.transaction() as connection:
            attempts = await lock_running(connection, updates)
            wanted = [
                item
                for item in updates
                if item.task_id in attempts and item.attempt >= attempts[item.task_id]
            ]
            await keep_frames(connection, wanted)
            phases = {item.export_id: item.phase for item in wanted}
            for export_id, phase in phases.items():
                await set_progress(connection, export_id, phase)
        going_on = {item.run_id for item in wanted}
        return sorted(phases), [item.run_id for item in updates if item.run_id not in going_on]

    async def find_probe(self, source_key: str, etag: str) -> pb.SourceInfo | None:
        """Return what is known of a source at this version."""
        query = select(probes.c.info).where(
            probes.c.source_key == source_key, probes.c.etag == etag
        )
        async with self._database.transaction() as connection:
            info = (await connection.execute(query)).scalar_one_or_none()
        return None if info is None else from_json(info, pb.SourceInfo())

    async def keep_probe(self, source_key: str, info: pb.SourceInfo) -> None:
        """Keep a probe that was made outside any export."""
        async with self._database.transaction() as connection:
            await keep_probe(connection, source_key, info)

    async def speed(self, family: str, resolution: str, quality: str) -> float | None:
        """Return the measured frames per second of finished encodes of this kind."""
        query = select(encode_speeds.c.frames_per_second).where(
            encode_speeds.c.family == family,
            encode_speeds.c.resolution == resolution,
            encode_speeds.c.quality == quality,
        )
        async with self._database.transaction() as connection:
            speed: float | None = (await connection.execute(query)).scalar_one_or_none()
            return speed


async def _lock_due(connection: AsyncConnection, lane: Lane, limit: int) -> list[TaskRecord]:
    in_flight = (
        select(tasks.c.user_id, func.count().label("running"))
        .where(tasks.c.lane == lane, tasks.c.state.in_(IN_FLIGHT_TASKS))
        .group_by(tasks.c.user_id)
        .subquery()
    )
    # The n-th waiting task of a user with m in flight ranks as m + n.
    turn = func.row_number().over(
        partition_by=tasks.c.user_id,
        order_by=(tasks.c.priority.desc(), tasks.c.created_at, tasks.c.id),
    )
    rank = (func.coalesce(in_flight.c.running, 0) + turn).label("rank")
    due = (
        select(tasks.c.id, tasks.c.created_at, rank)
        .outerjoin(in_flight, in_flight.c.user_id == tasks.c.user_id)
        .where(
            tasks.c.lane == lane,
            tasks.c.state == TaskState.PENDING,
            tasks.c.not_before <= func.now(),
        )
        .subquery()
    )
    first = select(due).order_by(due.c.rank, due.c.created_at).limit(limit).subquery()
    rows = await connection.execute(
        select(tasks)
        .join(first, first.c.id == tasks.c.id)
        .where(tasks.c.state == TaskState.PENDING)
        # The order of publishing is the order in which encoders take them.
        .order_by(first.c.rank, first.c.created_at)
        .with_for_update(of=tasks, skip_locked=True)
    )
    return [TaskRecord.from_row(row) for row in rows.mappings()]


async def _lock_task(connection: AsyncConnection, event: task_pb2.TaskEvent) -> TaskRecord | None:
    """Lock the export of an event, and its task.

    In this order, as callers' transactions do: otherwise a cancellation and
    an event could wait for each other.
    """
    await connection.execute(
        select(exports.c.id).where(exports.c.id == event.export_id).with_for_update()
    )
    query = select(tasks).where(tasks.c.id == event.task_id).with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else TaskRecord.from_row(row)


async def _lock_export(connection: AsyncConnection, export_id: str) -> ExportRecord:
    query = select_exports().where(exports.c.id == export_id).with_for_update(of=exports)
    return ExportRecord.from_row((await connection.execute(query)).mappings().one())


async def _ends_present_attempt(
    connection: AsyncConnection, event: task_pb2.TaskEvent, task: TaskRecord, outcome: str
) -> bool:
    """Keep how a run ended; return whether that is news, and of the attempt that counts."""
    first = await end_run(connection, event, outcome)
    return first and task.state in ACTIVE_TASKS and event.attempt >= task.attempt


async def _make_pending(
    connection: AsyncConnection, task: TaskRecord, delay: timedelta, *, failures: int
) -> None:
    await connection.execute(
        update(tasks)
        .where(tasks.c.id == task.id, tasks.c.state.in_(ACTIVE_TASKS))
        .values(state=TaskState.PENDING, not_before=func.now() + delay, failures=failures)
    )
    await connection.execute(
        update(exports)
        .where(exports.c.id == task.export_id, exports.c.state.in_(ACTIVE_EXPORTS))
        .values(phase="WAITING", updated_at=func.now())
    )


async def _finish_task(
    connection: AsyncConnection, task_id: str, state: TaskState, **extra: Any
) -> None:
    await connection.execute(
        update(tasks)
        .where(tasks.c.id == task_id, tasks.c.state.in_(task_sources(state)))
        .values(state=state, ended_at=func.now(), **extra)
    )


async def _set_processing(connection: AsyncConnection, task: TaskRecord) -> None:
    phase = "PROBING" if task.kind == "PROBE" else "ENCODING"
    await connection.execute(
        update(exports)
        .where(
            exports.c.id == task.export_id,
            exports.c.state.in_(export_sources(ExportState.PROCESSING)),
        )
        .values(
            state=ExportState.PROCESSING,
            started_at=func.coalesce(exports.c.started_at, func.now()),
        )
    )
    await connection.execute(
        update(exports)
        .where(exports.c.id == task.export_id, exports.c.state == ExportState.PROCESSING)
        .values(phase=phase, updated_at=func.now())
    )


async def _fail_export(
    connection: AsyncConnection, task: TaskRecord, error: pb.ExportError
) -> Applied:
    await end_export(connection, task.export_id, ExportState.FAILED, error=to_json(error))
    others = await unfinished_runs(connection, task.id)
    running = await end_tasks(connection, task.export_id)
    await discard_run_objects(connection, task.export_id, keep_run_id=None)
    return Applied(changed=True, stop_runs=others, stop_tasks=tuple(running))
