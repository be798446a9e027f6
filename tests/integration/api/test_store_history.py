"""The history of exports: every change of state, who made it and why, whatever has made it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest
from api_long import LongCase, long_export
from api_parts import until
from api_rig import INFO, NO_QUOTAS, PLAN, Case, Rig
from sqlalchemy import text

from services.api.planning import order_of
from services.api.states import ExportState, TaskState
from services.api.store.history import MOST_CHANGES, MOST_DETAIL, Cause, Change, History, by_user
from services.api.store.progress import Progress
from services.api.store.records import Planned
from services.api.work import whole_task
from services.common.errors import DomainError, Reason
from services.common.families import choose_family
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

MINUTE = timedelta(minutes=1)
USER, ENCODER = "user:anna", "encoder:encoder-1"
Line = tuple[str, str | None, str, int | None, str | None, str | None]


async def history(case: Case | LongCase) -> History:
    """Return the history of an export."""
    return await case.rig.exports.history(case.id, case.user)


async def lines(case: Case | LongCase) -> list[Line]:
    """Return what, from, to, attempt, who and why of every change."""
    return [
        (
            item.kind or "export",
            item.from_state,
            item.to_state,
            item.attempt,
            item.actor,
            item.reason,
        )
        for item in (await history(case)).changes
    ]


async def since(case: Case | LongCase, count: int) -> list[Line]:
    """Return the changes but for the first so many."""
    return (await lines(case))[count:]


# The ways of a state


async def test_export_and_task_begin_with_their_creation(rig: Rig) -> None:
    case = await rig.create()
    assert await lines(case) == [
        ("export", None, "QUEUED", None, USER, "CREATED"),
        ("WHOLE", None, "PENDING", 0, USER, "CREATED"),
    ]


async def test_task_that_is_sent_begun_and_done(rig: Rig) -> None:
    case = await rig.create()
    await case.complete("run_1")
    found = (await history(case)).changes
    assert await since(case, 2) == [
        ("WHOLE", "PENDING", "DISPATCHED", 1, "dispatcher", "SENT"),
        ("WHOLE", "DISPATCHED", "RUNNING", 1, ENCODER, "STARTED"),
        ("export", "QUEUED", "PROCESSING", None, ENCODER, "STARTED"),
        ("WHOLE", "RUNNING", "SUCCEEDED", 1, ENCODER, "DONE"),
        ("export", "PROCESSING", "COMPLETED", None, ENCODER, "DONE"),
    ]
    assert [item.run_id for item in found] == [None] * 3 + ["run_1"] * 4
    assert {item.task_id for item in found} == {None, case.task.id}
    times = [item.changed_at for item in found]
    assert times == sorted(times)
    assert times[0] >= case.record.created_at


async def test_output_whose_start_was_not_heard_of_passes_through_processing(rig: Rig) -> None:
    case = await rig.create()
    await rig.dispatch()
    await case.succeeded()
    assert [line[:3] for line in await since(case, 3)] == [
        ("WHOLE", "DISPATCHED", "SUCCEEDED"),
        ("export", "QUEUED", "PROCESSING"),
        ("export", "PROCESSING", "COMPLETED"),
    ]


async def test_progress_is_no_change_of_state(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    before = await lines(case)
    await rig.tasks.progressed([Progress(case.task.id, case.id, "run_1", 1, "ENCODING", 5)])
    assert await rig.value("SELECT frames_done FROM tasks") == 5
    assert await lines(case) == before


async def test_failure_that_is_tried_again_tells_encoder_attempt_and_reason(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.failed("run_1")
    await rig.dispatch()
    assert await since(case, 5) == [
        ("WHOLE", "RUNNING", "PENDING", 1, ENCODER, "ENCODER_FAILED"),
        ("WHOLE", "PENDING", "DISPATCHED", 2, "dispatcher", "SENT"),
    ]
    change = (await history(case)).changes[5]
    assert (change.run_id, change.detail) == ("run_1", "Broken pipe.")


async def test_failure_for_good_is_told_of_the_task_and_the_export(rig: Rig) -> None:
    case = await long_export(rig)
    video, other, *_ = case.work
    await rig.dispatch()
    failed = task_pb2.TaskFailed(code="TIME_LIMIT", message="Too slow.")
    event = case.event("run_1", task=video.id, failed=failed)
    error = pb.ExportError(code="TIME_LIMIT", message="Too slow.")
    before = len(await lines(case))
    await rig.tasks.failed(event, lambda _: error)
    changes = (await history(case)).changes[before:]
    told = {item.task_id: (item.to_state, item.reason, item.detail) for item in changes}
    assert told[video.id] == ("FAILED", "TIME_LIMIT", "Too slow.")
    assert told[None] == ("FAILED", "TIME_LIMIT", "Too slow.")
    # Thousands of others say it without the sentence.
    assert told[other.id] == ("CANCELLED", "EXPORT_FAILED", None)
    assert len(told) == len(case.work) + 1
    assert {(item.actor, item.run_id) for item in changes} == {(ENCODER, "run_1")}


async def test_task_that_is_handed_back(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await case.released()
    [line] = await since(case, 5)
    assert line == ("WHOLE", "RUNNING", "PENDING", 1, ENCODER, "RELEASED")


async def test_lost_task_is_sent_again_by_the_reconciler(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await rig.sql("UPDATE tasks SET seen_at = now() - interval '1 hour'")
    [silent] = await rig.housekeeping.silent_tasks(case.task.lane, MINUTE)
    assert await rig.housekeeping.requeue(silent, MINUTE)
    [line] = await since(case, 5)
    assert line == ("WHOLE", "RUNNING", "PENDING", 1, "reconciler", "LOST")


async def test_attempt_that_is_delivered_again_is_told_although_its_state_stays(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.started("run_2")
    await case.started("run_2")  # its event came twice
    [change] = (await history(case)).changes[5:]
    assert (change.kind, change.from_state, change.to_state) == ("WHOLE", "RUNNING", "RUNNING")
    assert (change.task_id, change.attempt) == (case.task.id, 1)
    assert (change.actor, change.reason, change.run_id) == (ENCODER, "DELIVERED_AGAIN", "run_2")


async def test_start_of_an_overtaken_attempt_is_no_delivery(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.released("run_1")
    await rig.dispatch()
    await case.started("run_2", attempt=2)
    before = await lines(case)
    await case.started("run_old", attempt=1)
    await case.released("run_older", attempt=1)
    assert await lines(case) == before


async def test_result_of_a_run_whose_start_was_not_heard_of_is_no_delivery(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.succeeded("run_2")
    assert [line[-1] for line in await since(case, 5)] == ["DONE", "DONE"]


async def test_time_is_that_of_the_change_not_of_the_wait_for_it(rig: Rig) -> None:
    case = await rig.create()
    await rig.dispatch()
    async with await psycopg.AsyncConnection.connect(rig.url) as caller:
        await caller.execute("SELECT 1 FROM exports WHERE id = %s FOR UPDATE", [case.id])
        starting = asyncio.create_task(case.started())
        await until(lambda: waits(rig))
        now = await rig.value("SELECT clock_timestamp()")
    await starting
    assert (await history(case)).changes[-1].changed_at > now


async def waits(rig: Rig) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return bool(await rig.value(f"{query} AND datname = current_database()"))


async def test_cancellation_is_the_owners(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await rig.exports.cancel(case.id, "anna")
    assert await since(case, 5) == [
        ("export", "PROCESSING", "CANCELLED", None, USER, "CANCELLED"),
        ("WHOLE", "RUNNING", "CANCELLED", 1, USER, "CANCELLED"),
    ]


async def test_retry_is_the_owners_and_the_failure_before_it_stays(rig: Rig) -> None:
    case = await rig.create()
    await case.fail()
    await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    assert await since(case, 5) == [
        ("WHOLE", "RUNNING", "FAILED", 1, ENCODER, "ENCODER_FAILED"),
        ("export", "PROCESSING", "FAILED", None, ENCODER, "ENCODER_FAILED"),
        ("export", "FAILED", "QUEUED", None, USER, "RETRIED"),
        ("WHOLE", "FAILED", "PENDING", 1, USER, "RETRIED"),
    ]


async def test_probe_leads_to_planned_tasks(rig: Rig) -> None:
    case = await rig.create(probe=True)
    await rig.dispatch(Lane.PROBE)
    await case.started()
    choice = choose_family(pb.ENCODER_PREFERENCE_AUTO, gpu_live=False)
    planned = Planned(PLAN, (whole_task(order_of(case.record), INFO, PLAN, choice),))
    await probe(case, planned)
    assert await since(case, 4) == [
        ("export", "QUEUED", "PROCESSING", None, ENCODER, "STARTED"),
        ("PROBE", "RUNNING", "SUCCEEDED", 1, ENCODER, "DONE"),
        ("WHOLE", None, "PENDING", 0, ENCODER, "PLANNED"),
    ]


async def test_probed_source_that_does_not_fit_fails_the_export(rig: Rig) -> None:
    case = await rig.create(probe=True)
    await rig.dispatch(Lane.PROBE)
    await probe(case, pb.ExportError(code="INVALID_SEGMENTS", message="Too long."))
    changes = (await history(case)).changes[3:]
    assert [(item.to_state, item.reason, item.detail) for item in changes] == [
        ("SUCCEEDED", "DONE", None),
        ("PROCESSING", "DONE", None),
        ("FAILED", "INVALID_SEGMENTS", "Too long."),
    ]


async def probe(case: Case, planned: Planned | pb.ExportError) -> None:
    event = case.event("run_1", succeeded=task_pb2.TaskSucceeded(info=INFO))
    await case.rig.tasks.probe_succeeded(event, planned)


async def test_parts_that_are_made_let_the_assembly_begin(rig: Rig) -> None:
    case = await long_export(rig)
    await case.finish()
    own = [line for line in await lines(case) if line[0] in ("ASSEMBLE", "export")]
    assert own == [
        ("export", None, "QUEUED", None, USER, "CREATED"),
        ("ASSEMBLE", None, "WAITING", 0, USER, "CREATED"),
        ("export", "QUEUED", "PROCESSING", None, ENCODER, "DONE"),
        ("ASSEMBLE", "WAITING", "PENDING", 0, ENCODER, "PARTS_DONE"),
        ("ASSEMBLE", "PENDING", "DISPATCHED", 1, "dispatcher", "SENT"),
        ("ASSEMBLE", "DISPATCHED", "SUCCEEDED", 1, ENCODER, "DONE"),
        ("export", "PROCESSING", "COMPLETED", None, ENCODER, "DONE"),
    ]
    again = await long_export(rig)
    assert {line[2] for line in await lines(again) if line[0] == "VIDEO"} == {"SUCCEEDED"}


async def test_tasks_that_another_plan_replaces_are_told_beside_the_new_ones(rig: Rig) -> None:
    case = await long_export(rig)
    assembly = case.assembly
    await case.ready_to_join()
    before = len(await lines(case))
    assert (await case.planned_again()).changed
    changes = (await history(case)).changes[before:]
    assert {(item.actor, item.reason, item.detail) for item in changes} == {
        (ENCODER, "PLANNED_AGAIN", "PART_MISSING: Gone.")
    }
    [ended] = [item for item in changes if item.task_id == assembly.id]
    assert (ended.from_state, ended.to_state) == ("DISPATCHED", "CANCELLED")
    assert {item.task_id for item in changes if item.from_state is None} == {
        task.id for task in case.work
    }


async def test_export_that_leaves_the_gpu(rig: Rig) -> None:
    case = await rig.create(lane=Lane.GPU)
    choice = choose_family(pb.ENCODER_PREFERENCE_GPU, gpu_live=False)
    moved = Planned(PLAN, (whole_task(order_of(case.record), INFO, PLAN, choice),))
    assert await rig.housekeeping.leave_lane(Lane.GPU, MINUTE, case.id, moved) is not None
    assert await since(case, 2) == [
        ("WHOLE", "PENDING", "CANCELLED", 0, "reconciler", "PLANNED_AGAIN"),
        ("WHOLE", None, "PENDING", 0, "reconciler", "PLANNED_AGAIN"),
    ]


async def test_output_whose_time_is_over(rig: Rig) -> None:
    case = await rig.create()
    await case.complete()
    await rig.sql("UPDATE exports SET expires_at = now()")
    assert await rig.housekeeping.expire() == [case.id]
    assert (await lines(case))[-1] == (
        *("export", "COMPLETED", "EXPIRED", None),
        *("reconciler", "RETENTION"),
    )


async def test_export_that_no_encoder_takes(rig: Rig) -> None:
    case = await rig.create()
    await rig.sql("UPDATE tasks SET not_before = now() - interval '1 day'")
    error = pb.ExportError(code="QUEUE_TIMEOUT", message="Nothing was done for 24 h.")
    assert await rig.housekeeping.give_up(case.id, MINUTE, error) is not None
    assert {(line[-2], line[-1]) for line in (await lines(case))[-2:]} == {
        ("reconciler", "QUEUE_TIMEOUT")
    }


async def test_event_that_met_a_defect_ends_the_export_as_an_internal_error(rig: Rig) -> None:
    case = await rig.create(probe=True)
    await rig.dispatch(Lane.PROBE)
    event = case.event("run_1", succeeded=task_pb2.TaskSucceeded(info=INFO))
    await rig.tasks.failed(event, lambda _: pb.ExportError(code="INTERNAL"))
    assert (await lines(case))[-1][-1] == "INTERNAL"


# Nothing can forget it


async def test_what_an_older_replica_does_is_told_without_who_and_why(rig: Rig) -> None:
    case = await rig.create()
    await case.put(task=TaskState.DISPATCHED, export=ExportState.PROCESSING)
    assert await since(case, 2) == [
        ("export", "QUEUED", "PROCESSING", None, None, None),
        ("WHOLE", "PENDING", "DISPATCHED", 0, None, None),
    ]


async def test_who_and_why_are_those_of_one_transaction_alone(rig: Rig) -> None:
    case = await rig.create()
    change = text("UPDATE exports SET state = :state WHERE id = :id")
    async with rig.database.transaction(by_user("anna", Cause.RETRIED)) as first:
        await first.execute(change, {"state": "PROCESSING", "id": case.id})
    # The pool gives the same connection again.
    async with rig.database.transaction() as second:
        await second.execute(change, {"state": "FAILED", "id": case.id})
    assert [line[-2:] for line in await since(case, 2)] == [(USER, "RETRIED"), (None, None)]


async def test_detail_is_cut_and_cleaned(rig: Rig) -> None:
    case = await rig.create()
    said = Change("encoder:é", "X", "moov\0atom" * 1000)
    async with rig.database.transaction(said) as connection:
        await connection.execute(text("UPDATE exports SET state = 'FAILED'"))
    change = (await history(case)).changes[-1]
    assert (change.actor, change.detail) == (
        "encoder:é",
        ("moov\N{REPLACEMENT CHARACTER}atom" * 1000)[:MOST_DETAIL],
    )


async def test_change_that_is_taken_back_is_not_told(rig: Rig) -> None:
    case = await rig.create()
    await rig.dispatch()
    before = await lines(case)

    async def lost(due: object) -> list[str]:
        raise DomainError(Reason.QUEUE_UNAVAILABLE, "Away.")

    await case.released()
    with pytest.raises(DomainError):
        await rig.tasks.dispatch(case.task.lane, 9, lost)
    assert [line[2] for line in (await lines(case))[len(before) :]] == ["PENDING"]


async def test_dispatch_does_not_wait_for_who_has_locked_the_export(rig: Rig) -> None:
    # A cancellation locks the export and then waits for its tasks, which dispatch has locked:
    # were an entry to need the export's row, Postgres would end one of the two.
    case = await rig.create()
    async with await psycopg.AsyncConnection.connect(rig.url) as caller:
        await caller.execute("SELECT 1 FROM exports WHERE id = %s FOR UPDATE", [case.id])
        async with asyncio.timeout(4):
            assert await rig.dispatch(case.task.lane) == [case.task.id]
    assert (await lines(case))[-1][2] == "DISPATCHED"


async def test_history_goes_with_its_export_and_no_other(rig: Rig) -> None:
    case, other = await rig.create(), await rig.create()
    await case.begin()
    await rig.exports.delete(case.id, "anna")
    assert {row["export_id"] for row in await rig.sql("SELECT export_id FROM state_changes")} == {
        other.id
    }
    with pytest.raises(DomainError, match="There is no export"):
        await history(case)


async def test_history_of_another_user_is_not_told(rig: Rig) -> None:
    case = await rig.create()
    with pytest.raises(DomainError, match="There is no export"):
        await rig.exports.history(case.id, "ben")


async def test_long_history_keeps_what_is_newest_and_all_of_the_export(rig: Rig) -> None:
    case = await rig.create()
    await rig.sql(
        "INSERT INTO tasks (id, export_id, user_id, kind, lane, state, priority, message)"
        " SELECT 'tsk_' || n, %s, 'anna', 'VIDEO', 'cpu', 'PENDING', 0, ''"
        " FROM generate_series(1, 1500) AS n",
        case.id,
    )
    await rig.exports.cancel(case.id, "anna")
    found = await history(case)
    assert len(found.changes) == MOST_CHANGES
    # Two of the export, 1501 tasks that were created and cancelled.
    assert found.omitted == 2 + 2 * 1501 - MOST_CHANGES
    assert [item.to_state for item in found.changes if item.task_id is None] == [
        "QUEUED",
        "CANCELLED",
    ]
    assert found.changes[0].to_state == "QUEUED"
    assert {item.to_state for item in found.changes[1:]} == {"CANCELLED"}
