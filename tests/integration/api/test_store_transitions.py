"""Every transition of the stores from every state: the tables of states.py decide."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from api_rig import NO_QUOTAS, Case, Rig

from services.api.states import EXPORT_TRANSITIONS, TASK_TRANSITIONS, ExportState, TaskState
from services.api.store.records import TaskRecord
from services.common.errors import DomainError

Step = Callable[[Case], Awaitable[object]]


async def cancel(case: Case) -> None:
    await case.rig.exports.cancel(case.id, case.user)


async def retry(case: Case) -> None:
    await case.rig.exports.retry(case.id, case.user, NO_QUOTAS)


async def expire(case: Case) -> None:
    await case.rig.sql("UPDATE exports SET expires_at = now(), output_run_id = 'run_1'")
    await case.rig.housekeeping.expire()


async def dispatch(case: Case) -> None:
    await case.rig.dispatch()


def record_of(row: dict[str, object]) -> TaskRecord:
    return TaskRecord.from_row(row)  # type: ignore[arg-type]


async def requeue(case: Case) -> None:
    await case.rig.sql("UPDATE tasks SET seen_at = now() - interval '1 hour'")
    task = record_of(await case.task_row())
    await case.rig.housekeeping.requeue(task, timedelta(minutes=1))


async def started(case: Case) -> None:
    await case.started("run_2")


async def succeeded(case: Case) -> None:
    await case.succeeded("run_2")


async def failed(case: Case) -> None:
    await case.failed("run_2")


async def failed_for_good(case: Case) -> None:
    await case.failed_for_good("run_2")


async def released(case: Case) -> None:
    await case.released("run_2")


E = ExportState
EXPORT_STEPS: dict[str, tuple[Step, dict[ExportState, ExportState]]] = {
    "cancel": (cancel, {E.QUEUED: E.CANCELLED, E.PROCESSING: E.CANCELLED}),
    "retry": (retry, {E.FAILED: E.QUEUED}),
    "expire": (expire, {E.COMPLETED: E.EXPIRED}),
    "started": (started, {E.QUEUED: E.PROCESSING}),
    # An output whose start was not heard of passes through PROCESSING.
    "succeeded": (succeeded, {E.QUEUED: E.COMPLETED, E.PROCESSING: E.COMPLETED}),
    "failed_for_good": (failed_for_good, {E.QUEUED: E.FAILED, E.PROCESSING: E.FAILED}),
    "failed": (failed, {}),
    "released": (released, {}),
}


@pytest.mark.parametrize("state", ExportState)
@pytest.mark.parametrize("step", EXPORT_STEPS)
async def test_export_changes_as_the_table_says(rig: Rig, step: str, state: ExportState) -> None:
    act, ways = EXPORT_STEPS[step]
    case = await rig.create()
    await rig.dispatch()
    await case.put(export=state)
    if state is E.FAILED:
        await rig.sql("""UPDATE exports SET error = '{"code": "X", "retryable": true}'""")
    try:
        await act(case)
    except DomainError:
        assert state not in ways
    found = await case.state()
    assert found is ways.get(state, state)
    passes_processing = (state, found) == (E.QUEUED, E.COMPLETED)
    assert found is state or found in EXPORT_TRANSITIONS[state] or passes_processing


T = TaskState
UNDECIDED = (T.PENDING, T.DISPATCHED, T.RUNNING)
TASK_STEPS: dict[str, tuple[Step, dict[TaskState, TaskState]]] = {
    "dispatch": (dispatch, {T.PENDING: T.DISPATCHED}),
    "started": (started, dict.fromkeys(UNDECIDED, T.RUNNING)),
    "succeeded": (succeeded, dict.fromkeys(UNDECIDED, T.SUCCEEDED)),
    "failed": (failed, dict.fromkeys(UNDECIDED, T.PENDING)),
    "released": (released, dict.fromkeys(UNDECIDED, T.PENDING)),
    "failed_for_good": (failed_for_good, dict.fromkeys(UNDECIDED, T.FAILED)),
    "cancel": (cancel, dict.fromkeys((T.WAITING, *UNDECIDED), T.CANCELLED)),
    "requeue": (requeue, {T.DISPATCHED: T.PENDING, T.RUNNING: T.PENDING}),
}


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("step", TASK_STEPS)
async def test_task_changes_as_the_table_says(rig: Rig, step: str, state: TaskState) -> None:
    act, ways = TASK_STEPS[step]
    case = await rig.create()
    await case.put(export=E.PROCESSING, task=state)
    await act(case)
    found = TaskState((await case.task_row())["state"])
    assert found is ways.get(state, state)
    assert found is state or found in TASK_TRANSITIONS[state]


@pytest.mark.parametrize("state", TaskState)
async def test_retry_starts_unfinished_tasks_over_and_leaves_finished_ones(
    rig: Rig, state: TaskState
) -> None:
    case = await rig.create()
    await case.put(export=E.FAILED, task=state)
    await rig.sql("""UPDATE exports SET error = '{"code": "X", "retryable": true}'""")
    await retry(case)
    found = (await case.task_row())["state"]
    assert found == (T.PENDING if state in (T.FAILED, T.CANCELLED) else state)
