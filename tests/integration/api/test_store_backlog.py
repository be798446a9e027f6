"""What is left of unfinished exports, as the store tells it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from api_long import long_export
from api_rig import PLAN, Rig

from services.api.states import ExportState
from services.api.store.backlog import PlanSummary, Speed, UnfinishedExport
from services.api.store.progress import Progress
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb


async def read(rig: Rig) -> dict[str, UnfinishedExport]:
    exports, _ = await rig.backlog.read()
    return {export.id: export for export in exports}


async def test_export_that_waits_as_a_whole(rig: Rig) -> None:
    case = await rig.create(priority=7, lane=Lane.GPU)
    assert (await read(rig))[case.id] == UnfinishedExport(
        id=case.id,
        user_id="anna",
        state=ExportState.QUEUED,
        priority=7,
        progress=0.0,
        created_at=case.record.created_at,
        lane=Lane.GPU,
        served_at=None,
        in_flight=(),
        due=1,
        frames=100,
        longest=100,
        assembly_due=False,
        plan=PlanSummary(
            resolution=PLAN.resolution,
            quality=PLAN.quality,
            width=PLAN.width,
            height=PLAN.height,
            frame_count=PLAN.frame_count,
            chunk_count=0,
        ),
    )


async def test_export_that_waits_for_its_probe_has_no_plan(rig: Rig) -> None:
    case = await rig.create(probe=True)
    found = (await read(rig))[case.id]
    assert (found.lane, found.due, found.frames) == (Lane.PROBE, 1, 0)
    assert found.plan is None
    await rig.dispatch(Lane.PROBE)
    found = (await read(rig))[case.id]
    assert (found.lane, found.due, len(found.in_flight)) == (Lane.PROBE, 0, 1)


async def test_tasks_in_flight_are_told_in_the_order_they_were_sent(rig: Rig) -> None:
    case = await long_export(rig)
    [first] = await rig.dispatch(window=1)
    sent = [first, *await rig.dispatch(window=3)]
    by_id = {task.id: task for task in case.work}
    await case.begun(by_id[sent[0]], "run_1")
    await rig.tasks.progressed([Progress(sent[0], case.id, "run_1", 1, "ENCODING", 30)])
    found = (await read(rig))[case.id]
    assert [task.id for task in found.in_flight] == sent
    assert [task.running for task in found.in_flight] == [True, False, False]
    assert [task.frames_done for task in found.in_flight] == [30, 0, 0]
    assert [task.frames for task in found.in_flight] == [by_id[id_].frames for id_ in sent]
    assert found.in_flight[0].kind == by_id[sent[0]].kind
    assert found.in_flight[0].sent_at <= found.in_flight[1].sent_at
    waiting = [task.frames for task in case.work[:-1] if task.id not in sent]
    assert (found.due, found.frames, found.longest) == (len(waiting), sum(waiting), max(waiting))
    assert not found.assembly_due
    assert found.state is ExportState.PROCESSING
    assert found.progress > 0


async def test_plan_of_an_export_in_parts_tells_their_number(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.sql("UPDATE exports SET plan = plan || '{\"chunk_count\": 12}'")
    plan = (await read(rig))[case.id].plan
    assert plan is not None
    assert (plan.frame_count, plan.chunk_count) == (2400, 12)


async def test_assembly_counts_once_it_is_due(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.dispatch()
    await case.make_parts()
    found = (await read(rig))[case.id]
    assert (found.due, found.frames, found.assembly_due) == (1, case.assembly.frames, True)
    await rig.dispatch()
    found = (await read(rig))[case.id]
    assert (found.due, found.assembly_due) == (0, False)
    assert [task.kind for task in found.in_flight] == ["ASSEMBLE"]


async def test_what_has_ended_is_not_told(rig: Rig) -> None:
    for end in ("completed", "failed", "cancelled"):
        case = await rig.create()
        if end == "completed":
            await case.complete(f"run_{end}")
        elif end == "failed":
            await case.fail(f"run_{end}")
        else:
            await rig.exports.cancel(case.id, "anna")
    assert await read(rig) == {}


async def test_speeds_are_those_of_the_families_that_serve_lanes(rig: Rig) -> None:
    for family in ("CPU", "NVENC", "OTHER"):
        await rig.sql(
            "INSERT INTO encode_speeds"
            " (family, resolution, quality, frames_per_second, overhead_seconds, samples)"
            " VALUES (%s, 'RESOLUTION_720P', 'QUALITY_LOW', 60, 0.5, 1)",
            f"ENCODER_FAMILY_{family}",
        )
    _, speeds = await rig.backlog.read()
    assert speeds == {
        (family, pb.RESOLUTION_720P, pb.QUALITY_LOW): Speed(60, 0.5)
        for family in (pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC)
    }


async def test_each_export_is_told_with_its_own_tasks(rig: Rig) -> None:
    cases = [await rig.create(user) for user in ("anna", "ben")]
    [sent] = await rig.dispatch(window=1)
    found = await read(rig)
    assert len(found) == 2
    for case in cases:
        in_flight = [task.id for task in found[case.id].in_flight]
        assert in_flight == ([sent] if case.task.id == sent else [])
        assert found[case.id].due == (0 if case.task.id == sent else 1)
        assert replace(found[case.id], in_flight=()).user_id == case.user


async def test_user_was_served_when_a_task_in_the_lane_ended_last(rig: Rig) -> None:
    done = await rig.create()
    await done.complete()
    case, other = await rig.create(), await rig.create("ben")
    gpu = await rig.create(lane=Lane.GPU)
    found = await read(rig)
    ended_at = (await done.task_row())["ended_at"].timestamp()
    assert found[case.id].served_at == pytest.approx(ended_at, abs=1e-5)
    assert found[other.id].served_at is None
    assert found[gpu.id].served_at is None
    await rig.dispatch()
    assert (await read(rig))[case.id].served_at == found[case.id].served_at
