"""Tasks: dispatching them, and applying what encoders say of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, probes, tasks
from services.api.states import (
    ACTIVE_EXPORTS,
    UNDECIDED_TASKS,
    ExportState,
    TaskState,
    task_sources,
)
from services.api.store.assembly import frames_made_of
from services.api.store.database import Database
from services.api.store.dispatch import count_in_flight, lanes_with_room, lock_due
from services.api.store.exports import end_export, select_exports
from services.api.store.garbage import (
    OUTPUTS,
    condemn_run,
    discard,
    discard_run_objects,
    output_of,
    write_off,
)
from services.api.store.history import DISPATCHER, Cause, Change, by_encoder, by_failure, say
from services.api.store.knowledge import keep_probe, learn_speed
from services.api.store.measuring import begin_measuring, complete, complete_unmeasured, keep_output
from services.api.store.progress import (
    Progress,
    keep_frames,
    lock_exports,
    lock_running,
    set_progress,
    sum_up,
)
from services.api.store.records import (
    ExportRecord,
    Planned,
    TaskRecord,
    from_json,
    source_key,
    to_json,
)
from services.api.store.reuse import forget_fingerprint, keep_part
from services.api.store.runs import begin_run, end_run, is_winner, unfinished_runs
from services.api.store.task_states import finish_task, make_pending, set_processing
from services.api.store.work import (
    PARTS,
    add_warnings,
    assemble_if_ready,
    end_tasks,
    made_by_others,
    plan_again,
    set_plan,
    take_from,
)
from services.common.content_key import RECIPE_VERSION
from services.common.damage import merged_warnings
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
        output: the file that an export was completed with.
    """

    changed: bool = False
    stop_runs: tuple[str, ...] = ()
    stop_tasks: tuple[str, ...] = ()
    output: pb.Output | None = None


class TaskStore:
    """What happens to tasks; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lanes_with_room(self, windows: Mapping[Lane, int]) -> list[Lane]:
        """Return the lanes in which a task is due and fewer than their window are in flight."""
        async with self._database.transaction() as connection:
            return await lanes_with_room(connection, windows)

    async def dispatch(self, lane: Lane, window: int, publish: Publish) -> int:
        """Publish due tasks of a lane until `window` are in flight; return how many.

        Fair between users: fewest in flight first, then who has waited longest, since the
        export came or a task of the user ended; of one user's by priority, then age; of one
        export's the longest first.
        A task becomes DISPATCHED in the same transaction, after JetStream has
        stored it; if that transaction is lost, the task is published again
        under the same message id, and JetStream drops it.

        Args:
            publish: sends the tasks, each with its new attempt, and returns
                the ids of those that are stored for sure.
        """
        async with self._database.transaction(Change(DISPATCHER, Cause.SENT)) as connection:
            in_flight = await count_in_flight(connection, lane)
            if in_flight >= window:
                return 0
            due = await lock_due(connection, lane, window - in_flight)
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
        change = by_encoder(event, Cause.STARTED)
        async with self._database.transaction(change) as connection:
            task = await _lock_task(connection, event)
            begun = task is None or await begin_run(connection, event)
            if task is None or task.state not in UNDECIDED_TASKS:
                # It may be storing its file before it hears that it is to stop, and then
                # says no more: nothing but this knows of the object.
                if begun and (task is None or task.kind in OUTPUTS):
                    await condemn_run(connection, event)
                elif begun and task is not None and task.kind in PARTS:
                    # It says no more either, and what it may store all the same is kept.
                    await write_off(connection, event.run_id)
                return Applied(stop_runs=(event.run_id,))
            if event.attempt < task.attempt:
                return Applied(stop_runs=(event.run_id,))
            if not begun:
                return Applied()
            await connection.execute(
                update(tasks)
                .where(tasks.c.id == task.id, tasks.c.state.in_(task_sources(TaskState.RUNNING)))
                .values(
                    state=TaskState.RUNNING,
                    attempt=event.attempt,
                    # The dispatch that sent it may not have been stored.
                    dispatched_at=func.coalesce(tasks.c.dispatched_at, func.now()),
                    seen_at=func.now(),
                )
            )
            await set_processing(connection, task)
            return Applied(changed=True)

    async def released(self, event: task_pb2.TaskEvent) -> Applied:
        """Apply that a run was handed back undone: the task is due again at once."""
        change = by_encoder(event, Cause.RELEASED)
        async with self._database.transaction(change) as connection:
            task = await _lock_task(connection, event)
            if task is None or not await _ends_present_attempt(connection, event, task, "RELEASED"):
                return Applied()
            await make_pending(connection, task, timedelta(0), failures=task.failures)
            return Applied(changed=True)

    async def failed(
        self, event: task_pb2.TaskEvent, decide: Callable[[int], timedelta | pb.ExportError]
    ) -> Applied:
        """Apply that a run failed: the task is tried again, or the export fails with it.

        Args:
            decide: pure; from the failures of the task before this one to the pause
                before it is tried again, or the error that the export fails with.
        """
        change = by_failure(event)
        async with self._database.transaction(change) as connection:
            task = await _lock_task(connection, event)
            if task is None or not await _ends_present_attempt(connection, event, task, "FAILED"):
                return Applied()
            verdict = decide(task.failures)
            if isinstance(verdict, timedelta):
                await make_pending(connection, task, verdict, failures=task.failures + 1)
                return Applied(changed=True)
            await finish_task(connection, task.id, TaskState.FAILED)
            if task.kind == "MEASURE":
                others = await unfinished_runs(connection, task.id)
                output = await complete_unmeasured(connection, task.export_id, verdict.message)
                return Applied(changed=True, stop_runs=others, output=output)
            return await _fail_export(connection, task, verdict, change)

    async def find(self, event: task_pb2.TaskEvent) -> tuple[ExportRecord, TaskRecord] | None:
        """Return the export and the task of an event, if both are there."""
        export = select_exports().where(exports.c.id == event.export_id)
        task = select(tasks).where(tasks.c.id == event.task_id)
        async with self._database.transaction() as connection:
            export_row = (await connection.execute(export)).mappings().one_or_none()
            task_row = (await connection.execute(task)).mappings().one_or_none()
        if export_row is None or task_row is None:
            return None
        return ExportRecord.from_row(export_row), TaskRecord.from_row(task_row)

    async def planned_again(
        self, event: task_pb2.TaskEvent, planned: Planned, *, generation: int
    ) -> Applied:
        """Apply that a run failed in a way that only another plan of its export mends.

        Args:
            generation: of the parts of the new plan.
        """
        why = f"{event.failed.code}: {event.failed.message}"
        change = by_encoder(event, Cause.PLANNED_AGAIN, why)
        async with self._database.transaction(change) as connection:
            task = await _lock_task(connection, event)
            if task is None or not await _ends_present_attempt(connection, event, task, "FAILED"):
                return Applied()
            record = await _lock_export(connection, task.export_id)
            running = await plan_again(connection, record, planned, generation=generation)
            return Applied(changed=True, stop_tasks=tuple(running))

    async def probe_succeeded(
        self, event: task_pb2.TaskEvent, planned: Planned | pb.ExportError
    ) -> Applied:
        """Apply a probe: keep it, and go on with the plan that was made with it.

        Args:
            planned: what comes next, or the error that the export fails with.
        """
        info = event.succeeded.info
        change = by_encoder(event, Cause.DONE)
        async with self._database.transaction(change) as connection:
            task = await _lock_task(connection, event)
            if task is None:
                return Applied()
            first = await end_run(connection, event, "SUCCEEDED")
            if not first or task.state not in UNDECIDED_TASKS:
                return Applied()
            # What may be planned another time is examined again when it is tried again.
            again = isinstance(planned, pb.ExportError) and planned.retryable
            state = TaskState.FAILED if again else TaskState.SUCCEEDED
            await finish_task(connection, task.id, state)
            record = await _lock_export(connection, task.export_id)
            await keep_probe(connection, source_key(record.user_id, record.source), info)
            if record.state not in ACTIVE_EXPORTS:
                return Applied()
            if isinstance(planned, pb.ExportError):
                await set_processing(connection, task)
                await say(connection, change.but(planned.code, planned.message))
                return await _fail_export(connection, task, planned, change)
            await say(connection, change.but(Cause.PLANNED))
            await set_plan(connection, record, planned)
            return Applied(changed=True)

    async def part_succeeded(self, event: task_pb2.TaskEvent) -> Applied:
        """Apply a stored part: it is known from now on; the last one lets the assembly begin."""
        part = event.succeeded.part
        change = by_encoder(event, Cause.DONE)
        async with self._database.transaction(change) as connection:
            task = await _lock_task(connection, event)
            reused = await keep_part(connection, event)
            if task is None:
                return Applied()
            first = await end_run(connection, event, "SUCCEEDED")
            if not first or task.state not in UNDECIDED_TASKS:
                return Applied()
            await finish_task(
                *(connection, task.id, TaskState.SUCCEEDED),
                frames_done=task.frames,
                part_key=part.key,
                reused=reused,
            )
            if _is_of_before(event):
                await forget_fingerprint(connection, task.export_id)
            if event.succeeded.warnings:
                await add_warnings(connection, task.export_id, event.succeeded.warnings)
            if task.part_key is not None and part.key != task.part_key:
                await take_from(connection, task.export_id, task.part_key, part.key)
            if await set_progress(connection, task.export_id, "ENCODING") == 0:
                await say(connection, change.but(Cause.PARTS_DONE))
                await assemble_if_ready(connection, task.export_id)
            others = await unfinished_runs(connection, task.id)
            if task.kind == "VIDEO":
                chunk = task_pb2.Task.FromString(task.message).video.chunk
                await learn_speed(connection, chunk.family, chunk, task.frames, event.succeeded)
            return Applied(changed=True, stop_runs=others)

    async def output_succeeded(self, event: task_pb2.TaskEvent, *, retention: timedelta) -> Applied:
        """Apply a finished file: the first result wins, any other is removed."""
        change = by_encoder(event, Cause.DONE)
        async with self._database.transaction(change) as connection:
            task = await _lock_task(connection, event)
            # A run whose objects are being deleted has ended too: its word comes too late.
            first = task is not None and await end_run(connection, event, "SUCCEEDED")
            # An encoder from before exports in parts takes every task for a whole one.
            fits = task is not None and task.kind in OUTPUTS
            if task is None or not first or not fits or task.state not in UNDECIDED_TASKS:
                # The winner's own event, delivered again, changes nothing.
                if not await is_winner(connection, event):
                    await discard(
                        connection, [(event.user_id, output_of(event.export_id, event.run_id))]
                    )
                return Applied()
            await finish_task(connection, task.id, TaskState.SUCCEEDED, frames_done=task.frames)
            await set_processing(connection, task)
            record = await _lock_export(connection, task.export_id)
            output = await _with_reuse(connection, task, event.succeeded.output)
            warnings = merged_warnings(*record.warnings, *event.succeeded.warnings)
            values: dict[str, Any] = {
                "output": to_json(output),
                "output_run_id": event.run_id,
                "warnings": [to_json(warning) for warning in warnings],
                "expires_at": func.now() + retention,
            }
            if _is_of_before(event):
                values["fingerprint"] = None
            measuring = await begin_measuring(connection, record.id, event.run_id)
            completed = False
            if measuring:
                await keep_output(connection, record.id, values)
            else:
                completed = await complete(connection, record.id, **values)
            keep = event.run_id if completed or measuring else None
            others = await unfinished_runs(connection, task.id)
            await discard_run_objects(connection, record.id, keep_run_id=keep)
            if keep is not None and task.kind == "WHOLE" and record.plan is not None:
                family = event.succeeded.output.encoder_family
                await learn_speed(connection, family, record.plan, task.frames, event.succeeded)
            return Applied(changed=True, stop_runs=others, output=output if completed else None)

    async def measured(self, event: task_pb2.TaskEvent) -> Applied:
        """Apply that an output was compared with its source: nothing is left to do for it."""
        change = by_encoder(event, Cause.DONE)
        async with self._database.transaction(change) as connection:
            task = await _lock_task(connection, event)
            first = task is not None and await end_run(connection, event, "SUCCEEDED")
            if task is None or not first or task.state not in UNDECIDED_TASKS:
                return Applied()
            await finish_task(connection, task.id, TaskState.SUCCEEDED, frames_done=task.frames)
            record = await _lock_export(connection, task.export_id)
            output = record.output or pb.Output()
            output.verification.quality.CopyFrom(event.succeeded.quality)
            completed = await complete(connection, record.id, output=to_json(output))
            others = await unfinished_runs(connection, task.id)
            return Applied(changed=True, stop_runs=others, output=output if completed else None)

    async def progressed(self, updates: Sequence[Progress]) -> tuple[list[str], list[str]]:
        """Keep how far runs are; return exports that moved, and runs that are to stop.

        In two transactions: no event waits while thousands of tasks are summed up.
        """
        if not updates:
            return [], []
        async with self._database.transaction() as connection:
            updates = await lock_exports(connection, updates)
            attempts = await lock_running(connection, updates)
            wanted = [
                item
                for item in updates
                if item.task_id in attempts and item.attempt >= attempts[item.task_id]
            ]
            await keep_frames(connection, wanted)
        phases = {item.export_id: item.phase for item in wanted}
        if phases:
            async with self._database.transaction() as connection:
                await sum_up(connection, phases)
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


async def _lock_task(connection: AsyncConnection, event: task_pb2.TaskEvent) -> TaskRecord | None:
    """Lock the export of an event, and its task.

    In this order, as callers' transactions do: otherwise a cancellation and
    an event could wait for each other.
    """
    query = (
        select(tasks)
        .select_from(exports.join(tasks, tasks.c.export_id == exports.c.id))
        .where(exports.c.id == event.export_id, tasks.c.id == event.task_id)
        # Postgres locks in the order that is said here.
        .with_for_update(of=[exports, tasks])
    )
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
    return first and task.state in UNDECIDED_TASKS and event.attempt >= task.attempt


def _is_of_before(event: task_pb2.TaskEvent) -> bool:
    """Return whether an older encoder has made something: one of now would make it otherwise.

    Parts have keys of their own then. An output's fingerprint is the API's, and so is forgotten:
    no later export takes the file over.
    """
    return event.succeeded.recipe_version < RECIPE_VERSION


async def _fail_export(
    connection: AsyncConnection, task: TaskRecord, error: pb.ExportError, change: Change
) -> Applied:
    await end_export(connection, task.export_id, ExportState.FAILED, error=to_json(error))
    others = await unfinished_runs(connection, task.id)
    # The other tasks, of which there may be thousands, say no more than that.
    await say(connection, change.but(Cause.EXPORT_FAILED))
    running = await end_tasks(connection, task.export_id)
    await discard_run_objects(connection, task.export_id, keep_run_id=None)
    return Applied(changed=True, stop_runs=others, stop_tasks=tuple(running))


async def _with_reuse(
    connection: AsyncConnection, task: TaskRecord, output: pb.Output
) -> pb.Output:
    """Return an output that says how many of its frames earlier exports had made."""
    output.reused_frame_count = 0
    if task.kind == "COPY":
        output.reused_frame_count = output.frame_count
    elif task.kind == "ASSEMBLE":
        keys = await made_by_others(connection, task.export_id)
        _, output.reused_frame_count = frames_made_of(task.message, keys)
    output.reused_share = output.reused_frame_count / max(1, output.frame_count)
    return output
