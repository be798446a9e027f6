"""What is left of unfinished exports, as the store tells it."""

from __future__ import annotations

from api_long import long_export
from api_rig import PLAN, Rig

from services.api.encode_kind import EncodeKind
from services.api.states import ExportState
from services.api.store.backlog import DueTasks, PlanSummary, Speed, UnfinishedExport
from services.api.store.progress import Progress
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb


async def read(rig: Rig) -> dict[str, UnfinishedExport]:
    left = await rig.backlog.read()
    return {export.id: export for export in left.exports}


async def test_export_that_waits_as_a_whole(rig: Rig) -> None:
    case = await rig.create(priority=7, lane=Lane.GPU)
    assert (await read(rig))[case.id] == UnfinishedExport(
        id=case.id,
        user_id="anna",
        state=ExportState.QUEUED,
        priority=7,
        created_at=case.record.created_at,
        pictures_made=0,
        due=(DueTasks(Lane.GPU, 1, frames=100, longest=100, kinds=("WHOLE",)),),
        in_flight=(),
        plan=PlanSummary(
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
    assert found.due == (DueTasks(Lane.PROBE, 1, frames=0, longest=0, kinds=("PROBE",)),)
    assert found.plan is None
    await rig.dispatch(Lane.PROBE)
    found = (await read(rig))[case.id]
    assert (found.due, [task.lane for task in found.in_flight]) == ((), [Lane.PROBE])


async def test_tasks_in_flight_are_told_in_the_order_they_were_sent(rig: Rig) -> None:
    case = await long_export(rig)
    [first] = await rig.dispatch(Lane.CPU, window=1)
    sent = [first, *await rig.dispatch(Lane.CPU, window=3)]
    by_id = {task.id: task for task in case.work}
    await case.begun(by_id[sent[0]], "run_1")
    await rig.tasks.progressed([Progress(sent[0], case.id, "run_1", 1, "ENCODING", 30)])
    found = (await read(rig))[case.id]
    assert [task.id for task in found.in_flight] == sent
    assert [task.running for task in found.in_flight] == [True, False, False]
    assert [task.frames_done for task in found.in_flight] == [30, 0, 0]
    assert [task.frames for task in found.in_flight] == [by_id[id_].frames for id_ in sent]
    assert found.in_flight[0].kind == "VIDEO"
    assert found.in_flight[0].sent_at <= found.in_flight[1].sent_at
    waiting = [task.frames for task in case.video if task.id not in sent]
    by_lane = {item.lane: item for item in found.due}
    assert by_lane[Lane.CPU] == DueTasks(
        Lane.CPU, len(waiting), sum(waiting), max(waiting), kinds=("VIDEO",)
    )
    sound = case.audio.frames
    assert by_lane[Lane.MUX] == DueTasks(Lane.MUX, 1, sound, sound, kinds=("AUDIO",))
    assert found.state is ExportState.PROCESSING
    assert found.pictures_made == 30


async def test_task_that_runs_before_its_dispatch_was_stored_is_told(rig: Rig) -> None:
    # The transaction that publishes is lost after JetStream has stored the message.
    case = await rig.create()
    await case.started(attempt=1)
    [task] = (await read(rig))[case.id].in_flight
    assert task.running
    assert task.sent_at > 0


async def test_assembly_counts_once_it_is_due(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.dispatch(Lane.CPU)
    await rig.dispatch(Lane.MUX)
    await case.make_parts()
    frames = case.assembly.frames
    found = (await read(rig))[case.id]
    assert found.due == (DueTasks(Lane.MUX, 1, frames, frames, kinds=("ASSEMBLE",)),)
    await rig.dispatch(Lane.MUX)
    found = (await read(rig))[case.id]
    assert (found.due, [task.kind for task in found.in_flight]) == ((), ["ASSEMBLE"])


async def test_comparison_is_told_by_the_plan_until_it_is_due(rig: Rig) -> None:
    plan = pb.Plan(measure_quality=True)
    plan.MergeFrom(PLAN)
    case = await rig.create(plan=plan, measured=True)
    found = (await read(rig))[case.id]
    assert found.plan is not None
    assert found.plan.compared_frames == 100
    assert [item.kinds for item in found.due] == [("WHOLE",)]
    await case.complete()
    assert [item.kinds for item in (await read(rig))[case.id].due] == [("MEASURE",)]
    plain = await rig.create()
    summary = (await read(rig))[plain.id].plan
    assert summary is not None
    assert summary.compared_frames == 0


async def test_what_a_newer_version_has_written_is_passed_over(rig: Rig) -> None:
    case, other = await rig.create(), await rig.create("ben")
    await rig.sql(
        "INSERT INTO encode_speeds (family, resolution, quality, frames_per_second, samples)"
        " VALUES ('ENCODER_FAMILY_CPU', 'RESOLUTION_4320P', 'QUALITY_MEDIUM', 10, 1),"
        " ('ENCODER_FAMILY_CPU', 'RESOLUTION_720P', 'QUALITY_MEDIUM', 10, 1)"
    )
    newer = """{"quality": "QUALITY_PERFECT", "video_codec": "VIDEO_CODEC_AV9"}"""
    await rig.sql("UPDATE exports SET plan = plan || %s::jsonb WHERE id = %s", newer, case.id)
    await rig.sql("UPDATE tasks SET lane = 'fpga' WHERE export_id = %s", other.id)
    left = await rig.backlog.read()
    assert list(left.speeds) == [
        EncodeKind(pb.ENCODER_FAMILY_CPU, pb.RESOLUTION_720P, pb.QUALITY_MEDIUM)
    ]
    by_id = {export.id: export for export in left.exports}
    plan = by_id[case.id].plan
    assert plan is not None
    assert (plan.quality, plan.video_codec) == (pb.QUALITY_UNSPECIFIED, pb.VIDEO_CODEC_H264)
    assert by_id[other.id].due == ()
    await rig.dispatch(Lane.CPU)
    await rig.sql("UPDATE tasks SET lane = 'fpga', state = 'DISPATCHED', dispatched_at = now()")
    assert not any(export.in_flight for export in (await rig.backlog.read()).exports)


async def test_plan_of_an_export_in_parts_tells_their_number(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.sql("UPDATE exports SET plan = plan || '{\"chunk_count\": 12}'")
    plan = (await read(rig))[case.id].plan
    assert plan is not None
    assert (plan.frame_count, plan.chunk_count) == (2400, 12)


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
    assert (await rig.backlog.read()).speeds == {
        EncodeKind(family, pb.RESOLUTION_720P, pb.QUALITY_LOW): Speed(60, 0.5)
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
        assert len(found[case.id].due) == (0 if case.task.id == sent else 1)
        assert found[case.id].user_id == case.user


async def test_user_was_served_when_a_task_in_the_lane_ended_last(rig: Rig) -> None:
    done = await rig.create()
    await done.complete()
    assert (await rig.backlog.read()).served == {}, "nobody waits"
    await rig.create()
    await rig.create("ben")
    await rig.create(lane=Lane.GPU)
    ended_at = (await done.task_row())["ended_at"].timestamp()
    expected = {("anna", Lane.CPU): ended_at}
    assert (await rig.backlog.read()).served == expected
    await rig.dispatch()
    assert (await rig.backlog.read()).served == expected
