"""Events of encoders: delivered twice, late, out of order, by runs that were overtaken."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest
from api_rig import NO_QUOTAS, OUTPUT, Case, Rig

from services.api.states import ExportState
from services.api.store.tasks import Applied
from services.common.errors import DomainError
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

GPU_FALLBACK = pb.ExportWarning(code="GPU_FALLBACK", message="The GPU could not do it.")


async def runs_of(rig: Rig) -> dict[str, str | None]:
    """Return every run and how it ended."""
    rows = await rig.sql("SELECT id, outcome FROM runs ORDER BY id")
    return {row["id"]: row["outcome"] for row in rows}


# A run begins


async def test_first_start_begins_the_export(rig: Rig) -> None:
    case = await rig.create()
    await rig.dispatch()
    assert await case.started() == Applied(changed=True)
    record = await case.now()
    assert (record.state, record.phase) == (ExportState.PROCESSING, "ENCODING")
    assert record.started_at is not None
    row = await case.task_row()
    assert (row["state"], row["attempt"]) == ("RUNNING", 1)
    [run] = await rig.sql("SELECT * FROM runs")
    assert (run["id"], run["task_id"], run["attempt"]) == ("run_1", case.task.id, 1)
    assert (run["delivery"], run["encoder_id"], run["outcome"]) == (1, "encoder-1", None)


async def test_event_that_waited_for_a_caller_sees_what_he_did(rig: Rig) -> None:
    case = await rig.create()
    await rig.dispatch()
    async with await psycopg.AsyncConnection.connect(rig.url) as caller:
        await caller.execute("SELECT 1 FROM exports WHERE id = %s FOR UPDATE", [case.id])
        starting = asyncio.create_task(case.started())
        await asyncio.sleep(0.2)
        assert not starting.done()
        # The event holds nothing that a caller needs.
        await caller.execute("SET lock_timeout = '500ms'")
        await caller.execute("UPDATE tasks SET state = 'CANCELLED' WHERE id = %s", [case.task.id])
        await caller.commit()
    assert await starting == Applied(stop_runs=("run_1",))


async def test_start_of_a_probe_is_shown_as_probing(rig: Rig) -> None:
    case = await rig.create(probe=True)
    await case.begin()
    assert (await case.now()).phase == "PROBING"


async def test_start_delivered_twice_changes_nothing_more(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    before = await case.now()
    await case.started()
    after = await case.now()
    assert (after.state, after.started_at) == (before.state, before.started_at)
    assert await runs_of(rig) == {"run_1": None}


async def test_start_of_a_later_run_keeps_when_the_export_began(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    begun = (await case.now()).started_at
    await case.released("run_1")
    await rig.dispatch()
    await case.started("run_2", attempt=2)
    assert (await case.now()).started_at == begun


async def test_start_heard_before_the_dispatch_was_stored(rig: Rig) -> None:
    # The transaction that publishes is lost after JetStream has stored the message.
    case = await rig.create()
    assert (await case.started(attempt=1)).changed
    row = await case.task_row()
    assert (row["state"], row["attempt"]) == ("RUNNING", 1)
    assert await rig.dispatch() == []


async def test_start_of_an_overtaken_attempt_is_told_to_stop(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.released("run_1")
    await rig.dispatch()
    await case.started("run_2", attempt=2)
    assert await case.started("run_old", attempt=1) == Applied(stop_runs=("run_old",))
    assert (await case.task_row())["attempt"] == 2


async def test_start_after_the_task_is_decided_is_told_to_stop(rig: Rig) -> None:
    case = await rig.create()
    await case.complete("run_1")
    assert await case.started("run_2") == Applied(stop_runs=("run_2",))
    assert await case.state() is ExportState.COMPLETED
    # Stopped right after its upload, it says nothing more of it.
    assert await rig.deletions() == [("anna", "run_2")]
    assert await runs_of(rig) == {"run_1": "SUCCEEDED", "run_2": "DISCARDED"}


async def test_start_of_the_winner_delivered_late_costs_no_object(rig: Rig) -> None:
    case = await rig.create()
    await case.complete("run_1")
    assert await case.started("run_1") == Applied(stop_runs=("run_1",))
    assert await rig.deletions() == []


async def test_start_of_a_deleted_export_is_told_to_stop(rig: Rig) -> None:
    case = await rig.create()
    await rig.dispatch()
    await rig.exports.delete(case.id, "anna")
    assert await case.started() == Applied(stop_runs=("run_1",))
    assert await rig.deletions() == [("anna", "run_1")]


async def test_start_that_comes_after_its_own_end_changes_nothing(rig: Rig) -> None:
    case = await rig.create()
    await rig.dispatch()
    await case.failed("run_1")
    assert await case.started("run_1") == Applied()
    assert (await case.task_row())["state"] == "PENDING"
    assert await runs_of(rig) == {"run_1": "FAILED"}


# A run is handed back


async def test_released_task_is_due_at_once_and_counts_no_failure(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    assert (await case.released()).changed
    record, row = await case.now(), await case.task_row()
    assert (record.state, record.phase) == (ExportState.PROCESSING, "WAITING")
    assert (row["state"], row["failures"], row["attempt"]) == ("PENDING", 0, 1)
    assert await runs_of(rig) == {"run_1": "RELEASED"}
    assert await rig.dispatch() == [case.task.id]
    assert (await case.task_row())["attempt"] == 2


async def test_release_delivered_again_does_not_take_the_task_from_the_next_run(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.released("run_1")
    await rig.dispatch()
    await case.started("run_2", attempt=2)
    assert await case.released("run_1") == Applied()
    assert (await case.task_row())["state"] == "RUNNING"


# A run fails


async def test_failed_task_is_tried_again_after_its_pause(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    assert (await case.failed(after=timedelta(hours=1))).changed
    row = await case.task_row()
    assert (row["state"], row["failures"]) == ("PENDING", 1)
    assert await rig.dispatch() == []
    await rig.sql("UPDATE tasks SET not_before = not_before - interval '1 hour'")
    assert await rig.dispatch() == [case.task.id]
    assert (await case.task_row())["failures"] == 1
    assert await runs_of(rig) == {"run_1": "FAILED"}
    assert await rig.value("SELECT error FROM runs") == {
        "code": "ENCODER_FAILED",
        "message": "Broken pipe.",
    }


async def test_failure_delivered_again_counts_once(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await case.failed()
    assert await case.failed(after=timedelta(hours=1)) == Applied()
    assert (await case.task_row())["failures"] == 1
    assert await rig.dispatch() == [case.task.id]
    assert await case.failed() == Applied()
    assert (await case.task_row())["state"] == "DISPATCHED"


async def test_failure_of_an_overtaken_attempt_does_not_count(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.released("run_1")
    await rig.dispatch()
    await case.started("run_2", attempt=2)
    assert await case.failed("run_old", attempt=1) == Applied()
    assert await case.failed_for_good("run_older", attempt=1) == Applied()
    assert (await case.task_row())["state"] == "RUNNING"
    assert await case.state() is ExportState.PROCESSING


async def test_failure_for_good_fails_the_export_with_its_error(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.started("run_2")
    assert await case.failed_for_good("run_2") == Applied(changed=True, stop_runs=("run_1",))
    record = await case.now()
    assert (record.state, record.phase) == (ExportState.FAILED, "UNSPECIFIED")
    assert record.error == pb.ExportError(
        code="ENCODER_FAILED", message="Broken pipe.", retryable=True
    )
    assert record.ended_at is not None
    assert (await case.task_row())["state"] == "FAILED"
    assert await rig.deletions() == [("anna", "run_1"), ("anna", "run_2")]


async def test_failure_for_good_stops_the_other_tasks_of_the_export(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await rig.sql(
        "INSERT INTO tasks (id, export_id, user_id, kind, lane, state, priority, message)"
        " VALUES ('tsk_2', %s, 'anna', 'WHOLE', 'cpu', 'DISPATCHED', 0, ''),"
        " ('tsk_3', %s, 'anna', 'WHOLE', 'cpu', 'PENDING', 0, '')",
        case.id,
        case.id,
    )
    applied = await case.failed_for_good()
    assert applied.stop_tasks == ("tsk_2",)
    states = await rig.sql("SELECT state FROM tasks WHERE id LIKE 'tsk__' ORDER BY id")
    assert [row["state"] for row in states] == ["CANCELLED", "CANCELLED"]


async def test_failure_of_a_poisonous_task_needs_no_start(rig: Rig) -> None:
    case = await rig.create()
    await rig.dispatch()
    assert (await case.failed_for_good("run_4", retryable=False)).changed
    assert await case.state() is ExportState.FAILED
    assert await runs_of(rig) == {"run_4": "FAILED"}


async def test_failure_delivered_again_does_not_fail_an_export_that_is_tried_again(
    rig: Rig,
) -> None:
    case = await rig.create()
    await case.fail("run_1")
    await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    assert await case.failed_for_good("run_1") == Applied()
    assert await case.failed("run_1") == Applied()
    assert await case.state() is ExportState.QUEUED
    assert (await case.task_row())["failures"] == 0


async def test_failure_of_a_deleted_export_changes_nothing(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await rig.exports.delete(case.id, "anna")
    assert await case.failed() == await case.failed_for_good() == Applied()
    assert await case.released() == Applied()
    assert await rig.value("SELECT count(*) FROM tasks") == 0


async def test_message_with_a_zero_byte_is_kept_without_it(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    failed = task_pb2.TaskFailed(code="ENCODER_FAILED", message="moov\0atom")
    error = pb.ExportError(code="ENCODER_FAILED", message="moov\0atom")
    await rig.tasks.failed(case.event("run_1", failed=failed), lambda _: error)
    stored = (await case.now()).error
    assert stored is not None
    assert stored.message == "moov\N{REPLACEMENT CHARACTER}atom"


# An output is made


async def test_first_result_completes_the_export(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    assert await case.succeeded(warnings=[GPU_FALLBACK]) == Applied(changed=True, output=OUTPUT)
    record = await case.now()
    assert (record.state, record.phase, record.progress) == (
        ExportState.COMPLETED,
        "UNSPECIFIED",
        100,
    )
    assert (record.output, record.output_run_id) == (OUTPUT, "run_1")
    assert record.warnings == (GPU_FALLBACK,)
    assert record.ended_at is not None
    assert record.expires_at == record.ended_at + timedelta(days=30)
    row = await case.task_row()
    assert (row["state"], row["frames_done"]) == ("SUCCEEDED", 100)
    assert await runs_of(rig) == {"run_1": "SUCCEEDED"}
    assert await rig.deletions() == []


async def test_result_delivered_again_changes_nothing(rig: Rig) -> None:
    case = await rig.create()
    await case.complete("run_1")
    before = await case.now()
    assert await case.succeeded("run_1") == Applied()
    assert await case.now() == before
    assert await rig.deletions() == []


async def test_first_result_wins_and_the_losers_object_is_deleted(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.started("run_2")
    applied = await case.succeeded("run_2")
    assert applied == Applied(changed=True, stop_runs=("run_1",), output=OUTPUT)
    assert await rig.deletions() == [("anna", "run_1")]
    assert await case.succeeded("run_1") == Applied()
    assert (await case.now()).output_run_id == "run_2"
    assert await rig.deletions() == [("anna", "run_1")]
    # Once when run 1 was overtaken, once more when it had uploaded nevertheless.
    assert await rig.value("SELECT count(*) FROM object_deletions") == 4


async def test_two_results_at_the_same_time_have_one_winner(rig: Rig, replica: Rig) -> None:
    case = await rig.create()
    await rig.dispatch()
    for run in ("run_1", "run_2"):
        await case.started(run)
    other = Case(replica, case.record, case.task)
    applied = await asyncio.gather(case.succeeded("run_1"), other.succeeded("run_2"))
    assert sorted(item.changed for item in applied) == [False, True]
    winner = (await case.now()).output_run_id
    [loser] = {"run_1", "run_2"} - {winner}
    assert await rig.deletions() == [("anna", loser)]


async def test_result_of_an_overtaken_attempt_wins_when_it_is_first(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await rig.sql("UPDATE tasks SET seen_at = now() - interval '1 hour'")
    [silent] = await rig.housekeeping.silent_tasks(case.task.lane, timedelta(minutes=1))
    assert await rig.housekeeping.requeue(silent, timedelta(minutes=1))
    await rig.dispatch()
    await case.started("run_2", attempt=2)
    applied = await case.succeeded("run_1", attempt=1)
    assert applied == Applied(changed=True, stop_runs=("run_2",), output=OUTPUT)
    assert (await case.now()).output_run_id == "run_1"
    assert await rig.deletions() == [("anna", "run_2")]


async def test_result_whose_start_comes_later_completes_the_export(rig: Rig) -> None:
    case = await rig.create()
    await rig.dispatch()
    await case.succeeded("run_1")
    assert await case.state() is ExportState.COMPLETED
    await case.started("run_1")
    assert await case.state() is ExportState.COMPLETED
    assert await runs_of(rig) == {"run_1": "SUCCEEDED"}
    assert await rig.deletions() == []


async def test_result_of_a_cancelled_export_is_deleted(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await rig.exports.cancel(case.id, "anna")
    await rig.sql("DELETE FROM object_deletions")
    assert await case.succeeded("run_1") == Applied()
    assert await case.state() is ExportState.CANCELLED
    assert await rig.deletions() == [("anna", "run_1")]


async def test_result_of_a_deleted_export_is_deleted(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await rig.exports.delete(case.id, "anna")
    await rig.sql("DELETE FROM object_deletions")
    assert await case.succeeded("run_1") == Applied()
    assert await rig.deletions() == [("anna", "run_1")]


async def test_result_of_a_run_whose_object_is_condemned_does_not_win_after_a_retry(
    rig: Rig,
) -> None:
    # Run 1 was thought to be lost; its object will be deleted once more in ten minutes.
    case = await rig.create()
    await case.begin("run_1")
    await case.started("run_2")
    await case.failed_for_good("run_2")
    await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    await rig.dispatch()
    await case.started("run_3", attempt=2)
    assert await case.succeeded("run_1") == Applied()
    assert await case.state() is ExportState.PROCESSING
    assert (await case.succeeded("run_3", attempt=2)).changed
    assert (await case.now()).output_run_id == "run_3"
    assert await rig.deletions() == [("anna", "run_1"), ("anna", "run_2")]


# Callers and events at the same time


@pytest.mark.parametrize("word", ["started", "released", "failed", "failed_for_good", "succeeded"])
async def test_event_waits_for_a_caller_who_has_locked_the_export(rig: Rig, word: str) -> None:
    # A caller's transaction locks the export and then its tasks. Were an event to
    # lock them the other way round, Postgres would end one of the two.
    case = await rig.create()
    await case.begin()
    async with await psycopg.AsyncConnection.connect(rig.url) as caller:
        await caller.execute("SELECT 1 FROM exports WHERE id = %s FOR UPDATE", [case.id])
        event = asyncio.create_task(getattr(case, word)())
        await asyncio.sleep(0.1)
        assert not event.done()
        await caller.execute("SET lock_timeout = '500ms'")
        await caller.execute("SELECT 1 FROM tasks WHERE export_id = %s FOR UPDATE", [case.id])
        await caller.commit()
    assert (await event).changed


async def test_cancel_and_result_at_the_same_time_leave_one_of_the_two(
    rig: Rig, replica: Rig
) -> None:
    for number in range(5):
        case = await rig.create()
        run = f"run_{number}"
        await case.begin(run)
        other = Case(replica, case.record, case.task)
        cancelled, applied = await asyncio.gather(
            rig.exports.cancel(case.id, "anna"), other.succeeded(run), return_exceptions=True
        )
        assert isinstance(applied, Applied)
        state = await case.state()
        if isinstance(cancelled, DomainError):
            assert (state, applied.changed) == (ExportState.COMPLETED, True)
            assert ("anna", run) not in await rig.deletions()
        else:
            assert (state, applied.changed) == (ExportState.CANCELLED, False)
            assert ("anna", run) in await rig.deletions()
