"""Any history of an export and its tasks is a path of open ways from its creation."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from api_long import LongCase, long_export
from api_rig import NO_QUOTAS, Case, Rig

from services.api.states import EXPORT_TRANSITIONS, TASK_TRANSITIONS, ExportState, TaskState
from services.api.store.history import Cause, StateChange
from services.api.store.records import TaskRecord
from services.common.errors import DomainError, Reason
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

MINUTE = timedelta(minutes=1)


def check_path(rows: list[StateChange], *, is_task: bool, now: str | None) -> None:
    """Fail unless changes lead from a creation to the present state by ways that are open."""
    assert rows[0].from_state is None
    for before, after in itertools.pairwise(rows):
        assert after.from_state == before.to_state
        if is_task:
            assert TaskState(after.to_state) in TASK_TRANSITIONS[TaskState(before.to_state)]
        else:
            assert ExportState(after.to_state) in EXPORT_TRANSITIONS[ExportState(before.to_state)]
    if now is not None:
        assert rows[-1].to_state == now


async def check_histories(rig: Rig) -> None:
    """Fail unless the histories of all exports and tasks are such paths, told to the end."""
    reasons = {*Cause, *Reason}
    for export in await rig.sql("SELECT id, user_id, state FROM exports"):
        changes = (await rig.exports.history(export["id"], export["user_id"])).changes
        own = [item for item in changes if item.task_id is None]
        check_path(own, is_task=False, now=export["state"])
        rows = await rig.sql("SELECT id, state FROM tasks WHERE export_id = %s", export["id"])
        states = {row["id"]: row["state"] for row in rows}
        told = {item.task_id for item in changes} - {None}
        assert set(states) <= told
        for task_id in told:
            path = [item for item in changes if item.task_id == task_id]
            check_path(path, is_task=True, now=states.get(task_id))
        assert {item.reason for item in changes} <= reasons
        assert all(item.actor for item in changes)


Step = Callable[[Case | LongCase, str], Awaitable[object]]


async def begin(case: Case | LongCase, run: str) -> None:
    await said(case, run, started=task_pb2.TaskStarted(delivery_count=1))


async def hand_back(case: Case | LongCase, run: str) -> None:
    await said(case, run, released=task_pb2.TaskReleased())


async def fail(case: Case | LongCase, run: str) -> None:
    await said(case, run, failed=task_pb2.TaskFailed(code="TIME_LIMIT", message="Slow."))


async def succeed(case: Case | LongCase, run: str) -> None:
    part = task_pb2.StoredPart(key=b"k" * 32, size_bytes=1)
    await said(case, run, succeeded=task_pb2.TaskSucceeded(part=part))


async def said(case: Case | LongCase, run: str, **kind: object) -> None:
    """Apply what a run of one of an export's tasks says, as the consumer would."""
    tasks = case.rig.tasks
    rows = await case.rig.sql(
        "SELECT * FROM tasks WHERE export_id = %s ORDER BY md5(id || %s) LIMIT 1", case.id, run
    )
    row = TaskRecord.from_row(rows[0])  # type: ignore[arg-type]
    event = task_pb2.TaskEvent(
        task_id=row.id,
        attempt=max(1, row.attempt),
        run_id=run,
        export_id=case.id,
        encoder_id="encoder-1",
        user_id=case.user,
        **kind,  # type: ignore[arg-type]
    )
    if event.HasField("started"):
        await tasks.started(event)
    elif event.HasField("released"):
        await tasks.released(event)
    elif event.HasField("failed"):
        error = pb.ExportError(code="TIME_LIMIT", message="Slow.", retryable=True)
        await tasks.failed(event, lambda failures: error if failures else timedelta(0))
    elif row.kind in ("VIDEO", "AUDIO"):
        event.succeeded.part.key = row.part_key or b""
        await tasks.part_succeeded(event)
    else:
        event.succeeded.output.frame_count = 1
        await tasks.output_succeeded(event, retention=timedelta(0))


async def cancel(case: Case | LongCase, run: str) -> None:
    await case.rig.exports.cancel(case.id, case.user)


async def retry(case: Case | LongCase, run: str) -> None:
    await case.rig.exports.retry(case.id, case.user, NO_QUOTAS)


async def dispatch(case: Case | LongCase, run: str) -> None:
    await case.rig.dispatch()


async def lose(case: Case | LongCase, run: str) -> None:
    await case.rig.sql("UPDATE tasks SET seen_at = now() - interval '1 hour'")
    for task in await case.rig.housekeeping.silent_tasks(Lane.CPU, MINUTE):
        await case.rig.housekeeping.requeue(task, MINUTE)


async def expire(case: Case | LongCase, run: str) -> None:
    await case.rig.housekeeping.expire()


async def plan_again(case: Case | LongCase, run: str) -> None:
    if isinstance(case, LongCase):
        await case.planned_again(case.video[0])


# As often as they come up: most of an export's life is work.
STEPS: dict[Step, int] = {
    dispatch: 6,
    begin: 8,
    succeed: 8,
    fail: 12,
    hand_back: 2,
    lose: 1,
    retry: 4,
    plan_again: 1,
    cancel: 1,
    expire: 1,
}


@pytest.mark.parametrize("seed", range(6))
async def test_any_history_is_a_path_of_open_ways_from_its_creation(rig: Rig, seed: int) -> None:
    chance = random.Random(seed)
    cases: list[Case | LongCase] = [await rig.create(), await rig.create(), await long_export(rig)]
    for number in range(80):
        [step] = chance.choices([*STEPS], [*STEPS.values()])
        case = chance.choice(cases)
        # Now and then an earlier run speaks again.
        run = f"run_{chance.randint(max(0, number - 9), number)}"
        try:
            await step(case, run)
        except DomainError:
            continue  # a caller is refused
    await check_histories(rig)
