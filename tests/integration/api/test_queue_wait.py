"""An export that no encoder takes ends after the longest wait, with the reason, and can go on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from api_long import long_export
from api_parts import Parts, overheard, running, until
from api_rig import NO_QUOTAS, Case, Rig
from nats.aio.client import Client

from services.api.states import ExportState
from services.api.store.queue_wait import GivenUp
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

HOUR = timedelta(hours=1)
ERROR = pb.ExportError(code="QUEUE_TIMEOUT", message="It waited.", retryable=True)


async def later(rig: Rig, minutes: int) -> None:
    """Let all that has happened so far be so long ago."""
    await rig.sql(
        "UPDATE tasks SET not_before = not_before - %(by)s, seen_at = seen_at - %(by)s,"
        " ended_at = ended_at - %(by)s".replace("%(by)s", f"interval '{minutes} minutes'")
    )


async def overdue(rig: Rig) -> list[tuple[str, Lane]]:
    return [(item.export_id, item.lane) for item in await rig.housekeeping.overdue(HOUR)]


@pytest.mark.parametrize("sent", [False, True])
async def test_export_that_nobody_takes_is_overdue_once_its_time_is_over(
    rig: Rig, sent: bool
) -> None:
    case = await rig.create(probe=True)
    if sent:
        await rig.dispatch(Lane.PROBE)
    await later(rig, 59)
    assert await overdue(rig) == []
    await later(rig, 2)
    assert await overdue(rig) == [(case.id, Lane.PROBE)]
    given_up = await rig.housekeeping.give_up(case.id, HOUR, ERROR)
    assert given_up == GivenUp((case.task.id,) if sent else ())
    record = await case.now()
    assert (record.state, record.error) == (ExportState.FAILED, ERROR)
    assert await rig.value("SELECT state FROM tasks") == "CANCELLED"
    assert await rig.value("SELECT count(*) FROM announcements") == 1
    # Whoever takes it after all is told to stop.
    assert (await case.started()).stop_runs == ("run_1",)
    assert await overdue(rig) == []


async def test_export_whose_encoder_vanished_for_good_is_overdue(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await later(rig, 61)
    assert await overdue(rig) == [(case.id, Lane.CPU)]
    await rig.housekeeping.give_up(case.id, HOUR, ERROR)
    assert await rig.deletions() == [("anna", "run_1")], "what its run may have stored goes"


async def test_export_of_which_anything_goes_on_is_not_overdue(rig: Rig) -> None:
    long = await long_export(rig)
    await rig.dispatch(window=1)
    await later(rig, 61)
    # Eleven chunks have waited for an hour, one has just been sent out or ended.
    [sent] = await rig.sql("SELECT id FROM tasks WHERE state = 'DISPATCHED' AND lane = 'cpu'")
    await rig.sql("UPDATE tasks SET seen_at = now() WHERE id = %s", sent["id"])
    assert await overdue(rig) == []
    await rig.sql(
        "UPDATE tasks SET seen_at = NULL, state = 'SUCCEEDED', ended_at = now() WHERE id = %s",
        sent["id"],
    )
    assert await overdue(rig) == []
    await later(rig, 61)
    assert await overdue(rig) == [(long.id, Lane.CPU)]


async def test_retry_and_pause_before_a_retry_are_no_wait(rig: Rig) -> None:
    case = await rig.create()
    await later(rig, 61)
    await rig.housekeeping.give_up(case.id, HOUR, ERROR)
    await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    assert await overdue(rig) == []
    await later(rig, 61)
    await rig.sql("UPDATE tasks SET not_before = now() + interval '10 seconds'")
    assert await overdue(rig) == []


async def test_export_that_is_taken_or_has_ended_meanwhile_is_not_given_up(rig: Rig) -> None:
    taken, ended = await rig.create(), await rig.create("ben")
    await later(rig, 61)
    assert len(await overdue(rig)) == 2
    await taken.begin()
    await rig.exports.cancel(ended.id, "ben")
    for case in (taken, ended):
        assert await rig.housekeeping.give_up(case.id, HOUR, ERROR) is None
    assert await taken.state() is ExportState.PROCESSING
    assert await ended.state() is ExportState.CANCELLED


async def test_two_replicas_give_up_an_export_once(rig: Rig, replica: Rig) -> None:
    case = await rig.create()
    await later(rig, 61)
    for each in (rig, replica):
        assert await each.housekeeping.overdue(HOUR) or each is replica
        await each.housekeeping.give_up(case.id, HOUR, ERROR)
    assert await rig.value("SELECT count(*) FROM announcements") == 1


FULL = "The encoder's scratch disk is full."


@pytest.mark.parametrize(
    ("slots", "problem", "why"),
    [
        (0, "", "no encoder is live that does encodes on the CPU."),
        (3, "", "none of the 3 slots for encodes on the CPU worked on it."),
        (3, FULL, f"no encoder takes encodes on the CPU now. {FULL}"),
    ],
)
async def test_reconciler_says_how_long_and_why(
    rig: Rig, nats: Client, slots: int, problem: str, why: str
) -> None:
    # The one heartbeat of the encoder is to last.
    parts = Parts(rig, nats, queue_wait_seconds=3600, encoder_timeout=60)
    case = await rig.create()
    fresh = await rig.create("ben")
    if slots:
        parts.encoder(cpu=slots, problem=problem)
    async with running(parts.dispatcher.run):
        await until(lambda: _is_sent(case))
    await rig.sql(
        "UPDATE tasks SET not_before = now() - interval '2 hours',"
        " seen_at = now() - interval '2 hours' WHERE export_id = %s",
        case.id,
    )
    async with (
        overheard(nats, "videoexport.control.cancel", task_pb2.CancelTasks) as stopped,
        overheard(nats, f"videoexport.updates.{case.id}", task_pb2.ExportChanged) as changed,
        running(parts.reconciler.run),
    ):
        await until(lambda: _is_failed(case))
        await until(lambda: _all_heard(stopped, changed))
    error = (await case.now()).error
    assert error is not None
    assert (error.code, error.retryable) == ("QUEUE_TIMEOUT", True)
    assert error.message == f"Nothing was done for 1 hour: {why}"
    assert list(stopped[0].task_ids) == [case.task.id]
    assert await fresh.state() is ExportState.QUEUED


async def test_without_a_limit_exports_wait_for_ever(rig: Rig, nats: Client) -> None:
    parts = Parts(rig, nats, queue_wait_seconds=0)
    case = await rig.create()
    await later(rig, 10_000)
    await parts.reconciler._give_up_waiting()
    assert await case.state() is ExportState.QUEUED


async def _is_sent(case: Case) -> bool:
    return bool((await case.task_row())["state"] == "DISPATCHED")


async def _is_failed(case: Case) -> bool:
    return await case.state() is ExportState.FAILED


async def _all_heard(*heard: list[object]) -> bool:
    return all(heard)
