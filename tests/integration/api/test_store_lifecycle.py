"""Get, cancel, retry and delete: whose export it is, and in which state."""

from __future__ import annotations

import pytest
from api_rig import NO_QUOTAS, Case, Rig

from services.api.states import ExportState, TaskState
from services.api.store.records import Quotas
from services.common import ids
from services.common.errors import DomainError, Reason

ENDED = (ExportState.COMPLETED, ExportState.FAILED, ExportState.EXPIRED)


async def refusal(action: object) -> DomainError:
    with pytest.raises(DomainError) as raised:
        await action  # type: ignore[misc]
    return raised.value


async def in_state(rig: Rig, state: ExportState, run: str = "run_1") -> Case:
    """Return an export that has come to a state as exports do."""
    case = await rig.create()
    if state is ExportState.PROCESSING:
        await case.begin(run)
    elif state is ExportState.COMPLETED:
        await case.complete(run)
    elif state is ExportState.FAILED:
        await case.fail(run)
    elif state is ExportState.CANCELLED:
        await case.begin(run)
        await rig.exports.cancel(case.id, case.user)
    elif state is ExportState.EXPIRED:
        await case.complete(run)
        await rig.sql("UPDATE exports SET expires_at = now() WHERE id = %s", case.id)
        assert await rig.housekeeping.expire() == [case.id]
    assert await case.state() is state
    await rig.sql("DELETE FROM object_deletions")
    return case


@pytest.mark.parametrize("user", ["ben", "ANNA", ""])
async def test_export_of_another_user_is_not_found(rig: Rig, user: str) -> None:
    case = await rig.create("anna")
    for action in (
        rig.exports.get(case.id, user),
        rig.exports.cancel(case.id, user),
        rig.exports.retry(case.id, user, NO_QUOTAS),
        rig.exports.delete(case.id, user),
    ):
        error = await refusal(action)
        assert error.reason is Reason.EXPORT_NOT_FOUND
        assert case.id in error.message
    assert await case.state() is ExportState.QUEUED


async def test_export_that_never_was_is_not_found(rig: Rig) -> None:
    error = await refusal(rig.exports.get(ids.export_id(), "anna"))
    assert error.reason is Reason.EXPORT_NOT_FOUND


# Cancel


async def test_cancel_of_a_queued_export_stops_nothing_because_nothing_runs(rig: Rig) -> None:
    case = await rig.create()
    record, running = await rig.exports.cancel(case.id, "anna")
    assert (record.state, record.phase, running) == (ExportState.CANCELLED, "UNSPECIFIED", [])
    assert record.ended_at is not None
    assert (await case.task_row())["state"] == TaskState.CANCELLED


@pytest.mark.parametrize("begun", [False, True])
async def test_cancel_names_the_tasks_that_were_sent_out(rig: Rig, begun: bool) -> None:
    case = await rig.create()
    await rig.dispatch()
    if begun:
        await case.started()
    _, running = await rig.exports.cancel(case.id, "anna")
    assert running == [case.task.id]


async def test_cancel_has_what_runs_have_made_deleted(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.started("run_2")
    await rig.exports.cancel(case.id, "anna")
    assert await rig.deletions() == [("anna", "run_1"), ("anna", "run_2")]


async def test_cancel_of_a_cancelled_export_returns_it(rig: Rig) -> None:
    case = await in_state(rig, ExportState.CANCELLED)
    before = await case.now()
    assert await rig.exports.cancel(case.id, "anna") == (before, [])
    assert await rig.deletions() == []


@pytest.mark.parametrize("state", ENDED)
async def test_cancel_of_an_ended_export_is_refused(rig: Rig, state: ExportState) -> None:
    case = await in_state(rig, state)
    before = await case.now()
    error = await refusal(rig.exports.cancel(case.id, "anna"))
    assert error.reason is Reason.EXPORT_ENDED
    assert state.lower() in error.message
    assert await case.now() == before
    assert await rig.deletions() == []


async def test_cancelled_task_is_not_dispatched(rig: Rig) -> None:
    case = await rig.create()
    await rig.exports.cancel(case.id, "anna")
    assert await rig.dispatch() == []


# Retry


async def test_retry_queues_what_failed_and_clears_the_error(rig: Rig) -> None:
    case = await in_state(rig, ExportState.FAILED)
    failed = await case.now()
    assert failed.error is not None
    assert failed.error.code == "ENCODER_FAILED"
    record = await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    assert (record.state, record.phase) == (ExportState.QUEUED, "WAITING")
    assert (record.error, record.ended_at) == (None, None)
    assert record.created_at == failed.created_at
    row = await case.task_row()
    assert (row["state"], row["failures"], row["frames_done"]) == ("PENDING", 0, 0)
    assert await rig.dispatch() == [case.task.id]
    assert (await case.task_row())["attempt"] == 2


async def test_retry_keeps_progress_and_what_was_finished(rig: Rig) -> None:
    case = await in_state(rig, ExportState.FAILED)
    await rig.sql("UPDATE exports SET progress = 40 WHERE id = %s", case.id)
    await rig.sql(
        "INSERT INTO tasks (id, export_id, user_id, kind, lane, state, priority, message)"
        " VALUES ('tsk_probe', %s, 'anna', 'PROBE', 'probe', 'SUCCEEDED', 0, '')",
        case.id,
    )
    record = await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    assert record.progress == 40
    assert await rig.value("SELECT state FROM tasks WHERE id = 'tsk_probe'") == "SUCCEEDED"


@pytest.mark.parametrize("state", [ExportState.QUEUED, ExportState.PROCESSING])
async def test_retry_of_an_unfinished_export_returns_it(rig: Rig, state: ExportState) -> None:
    case = await in_state(rig, state)
    before, row = await case.now(), await case.task_row()
    full = Quotas(exports_per_hour=1, running_per_user=1, queue_limit=1)
    assert await rig.exports.retry(case.id, "anna", full) == before
    assert await case.task_row() == row


@pytest.mark.parametrize(
    "state", [ExportState.COMPLETED, ExportState.CANCELLED, ExportState.EXPIRED]
)
async def test_retry_of_what_did_not_fail_is_refused(rig: Rig, state: ExportState) -> None:
    case = await in_state(rig, state)
    before = await case.now()
    error = await refusal(rig.exports.retry(case.id, "anna", NO_QUOTAS))
    assert error.reason is Reason.EXPORT_ENDED
    assert await case.now() == before


async def test_retry_that_cannot_succeed_is_refused(rig: Rig) -> None:
    case = await rig.create()
    await case.fail(retryable=False)
    error = await refusal(rig.exports.retry(case.id, "anna", NO_QUOTAS))
    assert error.reason is Reason.NOT_RETRYABLE
    assert await case.state() is ExportState.FAILED


async def test_retry_counts_among_the_running_but_not_again_in_the_hour(rig: Rig) -> None:
    case = await in_state(rig, ExportState.FAILED)
    other = await rig.create()
    error = await refusal(rig.exports.retry(case.id, "anna", Quotas(0, 1, 0)))
    assert error.reason is Reason.RUNNING_QUOTA
    error = await refusal(rig.exports.retry(case.id, "anna", Quotas(0, 0, 1)))
    assert error.reason is Reason.QUEUE_FULL
    await rig.exports.cancel(other.id, "anna")
    record = await rig.exports.retry(case.id, "anna", Quotas(1, 1, 1))
    assert record.state is ExportState.QUEUED


# Delete


@pytest.mark.parametrize("state", ExportState)
async def test_delete_removes_export_and_objects_in_every_state(
    rig: Rig, state: ExportState
) -> None:
    case = await in_state(rig, state)
    running = await rig.exports.delete(case.id, "anna")
    assert running == ([case.task.id] if state is ExportState.PROCESSING else [])
    for table in ("exports", "tasks", "runs"):
        assert await rig.value(f"SELECT count(*) FROM {table}") == 0
    runs = [] if state is ExportState.QUEUED else [("anna", "run_1")]
    assert await rig.deletions() == runs
    error = await refusal(rig.exports.delete(case.id, "anna"))
    assert error.reason is Reason.EXPORT_NOT_FOUND


async def test_delete_removes_nothing_else(rig: Rig) -> None:
    kept, other = await rig.create(), await rig.create("ben")
    await kept.complete("run_kept")
    await other.complete("run_other")
    case = await in_state(rig, ExportState.COMPLETED, "run_gone")
    await rig.exports.delete(case.id, "anna")
    assert await rig.deletions() == [("anna", "run_gone")]
    assert await kept.state() is await other.state() is ExportState.COMPLETED
    assert await rig.value("SELECT count(*) FROM runs") == 2


async def test_delete_of_an_output_whose_start_was_never_heard_of_removes_it_too(rig: Rig) -> None:
    case = await rig.create()
    await rig.dispatch()
    await case.succeeded("run_1")
    assert await case.state() is ExportState.COMPLETED
    await rig.exports.delete(case.id, "anna")
    assert await rig.deletions() == [("anna", "run_1")]


async def test_every_deletion_is_looked_at_twice(rig: Rig) -> None:
    case = await in_state(rig, ExportState.COMPLETED)
    await rig.exports.delete(case.id, "anna")
    rows = await rig.sql(
        "SELECT extract(epoch FROM not_before - now()) AS seconds FROM object_deletions ORDER BY 1"
    )
    assert [round(float(row["seconds"]), -1) for row in rows] == [0, 600]
