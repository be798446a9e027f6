"""Listing exports: filters, true totals, and pages that stay put under inserts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from api_rig import PLAN, Case, Rig
from google.protobuf.duration_pb2 import Duration

from services.api.states import ExportState
from services.api.store.records import ListFilter
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
VIDEO = "vid_" + "7" * 32


async def case_at(rig: Rig, minute: int, **changes: object) -> Case:
    case = await rig.create(**changes)  # type: ignore[arg-type]
    await case.put(created_at=NOON + timedelta(minutes=minute))
    return case


async def listed(rig: Rig, **where: object) -> tuple[list[str], int]:
    records, total = await rig.exports.page(
        ListFilter("anna", **where),  # type: ignore[arg-type]
        limit=100,
        before=None,
    )
    return [record.id for record in records], total


async def pages(
    rig: Rig, size: int, between: Callable[[], object] | None = None
) -> tuple[list[str], set[int]]:
    """Return all ids page by page, and every total that was told."""
    found: list[str] = []
    totals: set[int] = set()
    before = None
    while True:
        records, total = await rig.exports.page(ListFilter("anna"), limit=size, before=before)
        found += [record.id for record in records]
        totals.add(total)
        if len(records) < size:
            return found, totals
        before = (records[-1].created_at, records[-1].id)
        if between is not None:
            await between()  # type: ignore[misc]


async def test_list_is_newest_first_and_the_users_own(rig: Rig) -> None:
    first, second = await case_at(rig, 1), await case_at(rig, 2)
    await case_at(rig, 3, user="ben")
    assert await listed(rig) == ([second.id, first.id], 2)


async def test_list_of_nothing_is_empty(rig: Rig) -> None:
    assert await listed(rig) == ([], 0)


async def test_list_of_one_video(rig: Rig) -> None:
    await case_at(rig, 1)
    await case_at(rig, 2, source=pb.Source(s3_object=pb.S3Object(bucket="b", key=VIDEO)))
    wanted = await case_at(rig, 3, source=pb.Source(video_id=VIDEO))
    assert await listed(rig, video_id=VIDEO) == ([wanted.id], 1)


async def test_list_by_states(rig: Rig) -> None:
    cases = {state: await case_at(rig, n) for n, state in enumerate(ExportState)}
    for state, case in cases.items():
        await case.put(export=state)
    for state, case in cases.items():
        assert await listed(rig, states=(state,)) == ([case.id], 1)
    both = (ExportState.FAILED, ExportState.QUEUED)
    assert await listed(rig, states=both) == (
        [cases[ExportState.FAILED].id, cases[ExportState.QUEUED].id],
        2,
    )


async def test_list_by_time_includes_the_first_instant_and_not_the_last(rig: Rig) -> None:
    cases = [await case_at(rig, minute) for minute in range(4)]
    after, before = NOON + timedelta(minutes=1), NOON + timedelta(minutes=3)
    assert await listed(rig, created_after=after) == ([case.id for case in cases[:0:-1]], 3)
    assert await listed(rig, created_before=before) == ([case.id for case in cases[2::-1]], 3)
    assert await listed(rig, created_after=after, created_before=before) == (
        [cases[2].id, cases[1].id],
        2,
    )


async def test_list_by_everything_at_once(rig: Rig) -> None:
    source = pb.Source(video_id=VIDEO)
    wanted = await case_at(rig, 5, source=source)
    for minute in (1, 9):
        await case_at(rig, minute, source=source)
    await case_at(rig, 5)
    cancelled = await case_at(rig, 5, source=source)
    await cancelled.put(export=ExportState.CANCELLED)
    assert await listed(
        rig,
        video_id=VIDEO,
        states=(ExportState.QUEUED,),
        created_after=NOON + timedelta(minutes=2),
        created_before=NOON + timedelta(minutes=8),
    ) == ([wanted.id], 1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
async def test_pages_hold_every_export_once(rig: Rig, size: int) -> None:
    # Several of the same instant: their ids decide.
    cases = [await case_at(rig, minute // 3) for minute in range(7)]
    found, totals = await pages(rig, size)
    expected = sorted(((minute // 3, case.id) for minute, case in enumerate(cases)), reverse=True)
    assert found == [export_id for _, export_id in expected]
    assert totals == {7}


async def test_pages_stay_put_while_exports_are_added(rig: Rig) -> None:
    old = [(await case_at(rig, minute)).id for minute in range(6)]

    async def add() -> None:
        await rig.create()

    found, totals = await pages(rig, 2, between=add)
    assert found == old[::-1]
    assert totals == {6, 7, 8, 9}


async def test_pages_lose_nothing_while_exports_are_deleted(rig: Rig) -> None:
    old = [(await case_at(rig, minute)).id for minute in range(6)]
    doomed = [old[5], old[4], old[3]]

    async def remove() -> None:
        if doomed:
            await rig.exports.delete(doomed.pop(0), "anna")

    found, _ = await pages(rig, 2, between=remove)
    # Those of the pages already read, and what had not been deleted by then.
    assert found == [old[5], old[4], old[3], old[2], old[1], old[0]]


async def test_list_leaves_out_what_grows_with_the_segments(rig: Rig) -> None:
    cut = pb.Segment(end_time=Duration(seconds=1))
    case = await rig.create(segments=[cut])
    error = pb.ExportError(
        code="INVALID_SEGMENTS",
        message="No.",
        violations=[pb.FieldViolation(field="segments[0].end_time", description="is beyond")],
    )
    await case.begin()
    await case.rig.tasks.failed(case.event("run_1", failed=task_pb2.TaskFailed()), lambda _: error)
    whole = await case.now()
    assert (len(whole.segments), whole.plan, whole.error) == (1, PLAN, error)
    [[record], _] = await rig.exports.page(ListFilter("anna"), limit=10, before=None)
    assert record.segments == ()
    plan, rest = pb.Plan(), pb.ExportError()
    plan.CopyFrom(PLAN)
    plan.ClearField("segments")
    rest.CopyFrom(error)
    rest.ClearField("violations")
    assert (record.plan, record.error) == (plan, rest)


async def test_list_shows_exports_that_have_no_plan_yet(rig: Rig) -> None:
    await rig.create(probe=True)
    [[record], _] = await rig.exports.page(ListFilter("anna"), limit=10, before=None)
    assert (record.plan, record.error) == (None, None)
