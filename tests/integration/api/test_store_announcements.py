"""Every end of an export is announced, whatever becomes of its row."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC

import psycopg
import pytest
from api_rig import NO_QUOTAS, Rig

from services.api.states import ExportState
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


class Ends:
    """Terminal states as they are published."""

    def __init__(self, *, fail_at: int | None = None) -> None:
        self.published: list[tuple[str, ExportState]] = []
        self._fail_at = fail_at

    async def publish(self, message: task_pb2.ExportEnded) -> None:
        if len(self.published) == self._fail_at:
            raise TimeoutError
        self.published.append((message.export_id, ExportState.of(message.state)))


async def test_each_terminal_state_is_announced_once(rig: Rig) -> None:
    completed, failed, cancelled = [await rig.create() for _ in range(3)]
    await rig.create()  # goes on
    await completed.complete("run_1")
    await failed.fail("run_2")
    await rig.exports.cancel(cancelled.id, "anna")
    ends = Ends()
    assert await rig.housekeeping.announce(ends.publish) == 3
    assert ends.published == [
        (completed.id, ExportState.COMPLETED),
        (failed.id, ExportState.FAILED),
        (cancelled.id, ExportState.CANCELLED),
    ]
    assert await rig.housekeeping.announce(ends.publish) == 0
    assert len(ends.published) == 3


async def test_end_is_announced_again_when_the_word_of_it_was_lost(rig: Rig) -> None:
    cases = [await rig.create() for _ in range(3)]
    for number, case in enumerate(cases):
        await case.complete(f"run_{number}")
    with pytest.raises(TimeoutError):
        await rig.housekeeping.announce(Ends(fail_at=2).publish)
    ends = Ends()
    assert await rig.housekeeping.announce(ends.publish) == 1
    assert [export_id for export_id, _ in ends.published] == [case.id for case in cases[2:]]


async def test_every_end_of_a_retried_export_is_announced(rig: Rig) -> None:
    case = await rig.create()
    await case.fail()
    ends = Ends()
    # Also of one that is retried before its end was announced.
    await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    assert await rig.housekeeping.announce(ends.publish) == 1
    await rig.dispatch()
    await case.started("run_2", attempt=2)
    await case.succeeded("run_2", attempt=2)
    await rig.housekeeping.announce(ends.publish)
    assert [state for _, state in ends.published] == [ExportState.FAILED, ExportState.COMPLETED]


async def test_expiry_is_announced_too(rig: Rig) -> None:
    case = await rig.create()
    await case.complete()
    ends = Ends()
    await rig.housekeeping.announce(ends.publish)
    await rig.sql("UPDATE exports SET expires_at = now()")
    await rig.housekeeping.expire()
    await rig.housekeeping.announce(ends.publish)
    assert ends.published[-1] == (case.id, ExportState.EXPIRED)


@pytest.mark.parametrize(
    ("state", "announced"),
    [
        (ExportState.QUEUED, ExportState.CANCELLED),
        (ExportState.COMPLETED, ExportState.COMPLETED),
        (ExportState.FAILED, ExportState.FAILED),
    ],
)
async def test_end_is_announced_although_the_export_was_deleted(
    rig: Rig, state: ExportState, announced: ExportState
) -> None:
    case = await rig.create()
    if state is ExportState.COMPLETED:
        await case.complete()
    if state is ExportState.FAILED:
        await case.fail()
    await rig.exports.delete(case.id, "anna")
    ends = Ends()
    await rig.housekeeping.announce(ends.publish)
    assert ends.published == [(case.id, announced)]


async def test_announcement_tells_of_plan_error_and_warnings(rig: Rig) -> None:
    case = await rig.create()
    await case.fail()
    unplanned = await rig.create(probe=True)
    low = json.dumps({"quality": "QUALITY_LOW"})
    await rig.sql("UPDATE exports SET plan = NULL, settings = %s WHERE id = %s", low, unplanned.id)
    await rig.exports.cancel(unplanned.id, "anna")
    heard: list[task_pb2.ExportEnded] = []

    async def publish(message: task_pb2.ExportEnded) -> None:
        heard.append(message)

    await rig.housekeeping.announce(publish)
    record = await case.now()
    assert record.plan is not None
    assert record.ended_at is not None
    [failed, cancelled] = heard
    assert cancelled.quality == pb.QUALITY_LOW
    assert failed.error == record.error
    assert (failed.quality, failed.resolution) == (record.plan.quality, record.plan.resolution)
    assert failed.end_time.ToDatetime(UTC) == record.ended_at
    assert failed.create_time.ToDatetime(UTC) == record.created_at


async def test_two_replicas_announce_each_end_once(rig: Rig, replica: Rig) -> None:
    cases = [await rig.create() for _ in range(6)]
    for number, case in enumerate(cases):
        await case.complete(f"run_{number}")
    ends = Ends()

    async def slowly(message: task_pb2.ExportEnded) -> None:
        await asyncio.sleep(0.02)
        await ends.publish(message)

    await asyncio.gather(*(each.housekeeping.announce(slowly) for each in (rig, replica)))
    assert len(ends.published) == len(set(ends.published)) == 6


async def test_owner_who_holds_an_export_does_not_hold_up_the_others(rig: Rig) -> None:
    cases = [await rig.create() for _ in range(3)]
    for number, case in enumerate(cases):
        await case.complete(f"run_{number}")
    await rig.sql("UPDATE exports SET expires_at = now()")
    ends = Ends()
    async with await psycopg.AsyncConnection.connect(rig.url) as owner:
        await owner.execute("SELECT 1 FROM exports WHERE id = %s FOR UPDATE", [cases[0].id])
        async with asyncio.timeout(2):
            assert await rig.housekeeping.announce(ends.publish) == 3
            assert len(await rig.housekeeping.expire()) == 2
    assert await rig.housekeeping.expire() == [cases[0].id]
