"""Plans that are made again where the first cannot go on."""

from __future__ import annotations

from api_long import CPU, GPU, LONG_INFO, LongCase, long_export, seconds
from api_parts import Parts
from api_planning import finish_whole, order, stored
from api_rig import INFO, NO_QUOTAS, SOURCE, Rig

from services.api.planning import order_of
from services.api.replanning import MOST_REPLANS
from services.api.states import ExportState
from services.api.store.records import source_key
from services.api.store.tasks import Applied
from services.common.errors import Reason
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


def failed(
    case: LongCase, index: int, code: str, *, run: str = "run_f", missing: tuple[bytes, ...] = ()
) -> task_pb2.TaskEvent:
    word = task_pb2.TaskFailed(code=code, message="It failed.", missing_keys=missing)
    return case.event(run, task=case.work[index].id, failed=word)


async def rows(rig: Rig, export_id: str) -> list[dict[str, object]]:
    return await rig.sql(
        "SELECT kind, lane, state, part_key, message, id FROM tasks WHERE export_id = %s"
        " ORDER BY kind, id",
        export_id,
    )


async def test_missing_part_is_made_again_with_what_is_left_of_the_others(
    known: Parts, rig: Rig
) -> None:
    case = await long_export(rig)
    await case.ready_to_join()
    gone = case.video[4].part_key or b""
    await known.consumer.apply(failed(case, -1, "PART_MISSING", missing=(gone,)))
    due = [row for row in await rows(rig, case.id) if row["state"] == "PENDING"]
    assert [(row["kind"], row["part_key"]) for row in due] == [("VIDEO", gone)]
    assert await rig.value("SELECT count(*) FROM cached_parts") == 12
    assert await known.sample("videoexport_export_replans_total", reason="PART_MISSING") == 1
    [assembly] = [row for row in await rows(rig, case.id) if row["kind"] == "ASSEMBLE"]
    assert assembly["state"] == "WAITING"


async def test_parts_that_do_not_join_are_all_made_anew_under_other_names(
    known: Parts, rig: Rig
) -> None:
    case = await long_export(rig)
    await case.ready_to_join()
    before = {task.part_key for task in case.work}
    await known.consumer.apply(failed(case, -1, "PARTS_DIFFER"))
    after = await rows(rig, case.id)
    assert {row["state"] for row in after} == {"PENDING", "WAITING"}
    assert before & {row["part_key"] for row in after if row["part_key"] is not None} == set()
    assert (await case.now()).generation == 1
    # A later export does not take them either, nor does its encoder find them.
    assert await rig.value("SELECT count(*) FROM cached_parts") == 0
    deletions = await rig.sql(
        "SELECT user_id, object FROM object_deletions WHERE object ? 'cache_key'"
    )
    assert {row["user_id"] for row in deletions} == {"anna"}
    assert sorted(row["object"]["cache_key"] for row in deletions) == sorted(
        key.hex() for key in before if key is not None
    )


async def test_export_whose_parts_do_not_join_twice_is_made_whole(known: Parts, rig: Rig) -> None:
    case = await long_export(rig, choice=GPU)
    for code, kinds in (
        ("PARTS_DIFFER", {"VIDEO", "AUDIO", "ASSEMBLE"}),
        ("PARTS_DIFFER", {"WHOLE"}),
    ):
        await rig.sql("UPDATE tasks SET state = 'DISPATCHED', attempt = 1 WHERE kind = 'ASSEMBLE'")
        assembly = await rig.value("SELECT id FROM tasks WHERE kind = 'ASSEMBLE'")
        word = task_pb2.TaskFailed(code=code, message="It failed.")
        await known.consumer.apply(case.event(case.run(), task=assembly, failed=word))
        assert {row["kind"] for row in await rows(rig, case.id)} == kinds
    assert {row["lane"] for row in await rows(rig, case.id)} == {"gpu"}


async def test_gpu_that_fails_takes_the_whole_export_to_the_cpu(known: Parts, rig: Rig) -> None:
    known.encoder(gpu=2)
    case = await long_export(rig, choice=GPU)
    await rig.dispatch(Lane.GPU)
    await case.made(case.video[0])
    await known.consumer.apply(failed(case, 1, "GPU_FAILED"))
    after = await rows(rig, case.id)
    assert {row["lane"] for row in after if row["kind"] == "VIDEO"} == {"cpu"}
    assert {row["state"] for row in after if row["kind"] == "VIDEO"} == {"PENDING"}
    families = {
        task_pb2.Task.FromString(row["message"]).video.chunk.family  # type: ignore[arg-type]
        for row in after
        if row["kind"] == "VIDEO"
    }
    assert families == {pb.ENCODER_FAMILY_CPU}
    assert [item.code for item in (await case.now()).warnings] == ["GPU_FALLBACK"]


async def test_assembly_that_is_planned_again_stays_with_its_family(known: Parts, rig: Rig) -> None:
    # The GPU has come meanwhile; chunks of both would not join.
    case = await long_export(rig, choice=CPU)
    await case.ready_to_join()
    known.encoder(gpu=2)
    gone = case.video[0].part_key or b""
    await known.consumer.apply(failed(case, -1, "PART_MISSING", missing=(gone,)))
    assert "gpu" not in {row["lane"] for row in await rows(rig, case.id)}


async def test_copy_whose_file_is_gone_is_encoded(known: Parts, rig: Rig) -> None:
    await rig.tasks.keep_probe(source_key("anna", SOURCE), INFO)
    first = await stored(rig, await known.planner.plan(order(), INFO))
    await rig.dispatch()
    await finish_whole(rig, first)
    copy = await stored(rig, await known.planner.plan(order(), INFO))
    assert copy.work[0].kind == "COPY"
    await rig.dispatch()
    await known.consumer.apply(failed(copy, 0, "OBJECT_NOT_FOUND"))
    assert [row["kind"] for row in await rows(rig, copy.id)] == ["WHOLE"]


async def test_copy_that_storage_holds_up_is_tried_again_as_it_is(known: Parts, rig: Rig) -> None:
    first = await stored(rig, await known.planner.plan(order(), INFO))
    await rig.dispatch()
    await finish_whole(rig, first)
    copy = await stored(rig, await known.planner.plan(order(), INFO))
    await rig.dispatch()
    await known.consumer.apply(failed(copy, 0, "STORAGE_UNAVAILABLE"))
    assert [(row["kind"], row["state"]) for row in await rows(rig, copy.id)] == [
        ("COPY", "PENDING")
    ]


async def test_copy_that_storage_never_makes_is_encoded_in_the_end(known: Parts, rig: Rig) -> None:
    # As one that is too large to be copied in time.
    await rig.tasks.keep_probe(source_key("anna", SOURCE), INFO)
    first = await stored(rig, await known.planner.plan(order(), INFO))
    await rig.dispatch()
    await finish_whole(rig, first)
    copy = await stored(rig, await known.planner.plan(order(), INFO))
    for attempt in range(known.settings.task_attempts):
        assert [row["kind"] for row in await rows(rig, copy.id)] == ["COPY"]
        await rig.sql("UPDATE tasks SET not_before = now()")
        await rig.dispatch()
        event = failed(copy, 0, "STORAGE_UNAVAILABLE", run=f"run_{attempt}")
        event.attempt = attempt + 1
        await known.consumer.apply(event)
    assert [(row["kind"], row["state"]) for row in await rows(rig, copy.id)] == [
        ("WHOLE", "PENDING")
    ]


async def test_failure_delivered_again_does_not_replace_the_new_tasks(
    known: Parts, rig: Rig
) -> None:
    case = await long_export(rig)
    await case.ready_to_join()
    event = failed(case, -1, "PARTS_DIFFER")
    await known.consumer.apply(event)
    before = await rows(rig, case.id)
    await known.consumer.apply(event)
    assert await rows(rig, case.id) == before


async def test_export_is_not_planned_again_for_ever(known: Parts, rig: Rig) -> None:
    case = await long_export(rig)
    await rig.sql("UPDATE exports SET replans = %s", MOST_REPLANS)
    await rig.dispatch()
    await case.make_parts()
    for attempt in range(known.settings.task_attempts):
        await rig.sql("UPDATE tasks SET not_before = now()")
        await rig.dispatch()
        event = failed(case, -1, "PARTS_DIFFER", run=f"run_{attempt}")
        event.attempt = attempt + 1
        await known.consumer.apply(event)
    record = await case.now()
    assert record.state is ExportState.FAILED
    assert record.error is not None
    assert (record.error.code, record.error.retryable) == ("PARTS_DIFFER", True)


async def test_retry_may_plan_an_export_again_that_was_planned_too_often(
    known: Parts, rig: Rig
) -> None:
    case = await long_export(rig)
    await rig.sql("UPDATE exports SET replans = %s", MOST_REPLANS)
    await case.ready_to_join()
    gone = case.video[4].part_key or b""
    error = pb.ExportError(code="PART_MISSING", message="Gone.", retryable=True)
    missing = failed(case, -1, "PART_MISSING", missing=(gone,))
    assert (await rig.tasks.failed(missing, lambda _: error)).changed
    await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    await rig.dispatch()
    event = failed(case, -1, "PART_MISSING", run="run_2", missing=(gone,))
    event.attempt = 2
    await known.consumer.apply(event)
    due = [row["part_key"] for row in await rows(rig, case.id) if row["state"] == "PENDING"]
    assert due == [gone]


async def test_failure_is_an_ordinary_one_where_the_source_is_told_otherwise_since(
    known: Parts, rig: Rig
) -> None:
    # By another version of the encoder; the segment ends behind what it says is the end.
    case = await long_export(rig, seconds(0, 96))
    await case.ready_to_join()
    shorter = pb.SourceInfo()
    shorter.CopyFrom(LONG_INFO)
    shorter.video.frame_count -= 25
    await rig.tasks.keep_probe(source_key("anna", SOURCE), shorter)
    await known.consumer.apply(failed(case, -1, "PARTS_DIFFER"))
    assert (await case.states())[-1] == "PENDING", "the assembly is tried again"


async def test_failure_of_a_cancelled_export_plans_nothing(known: Parts, rig: Rig) -> None:
    case = await long_export(rig)
    await case.ready_to_join()
    await rig.exports.cancel(case.id, "anna")
    before = await rows(rig, case.id)
    found = await known.replanner.after_failure(
        failed(case, -1, "PARTS_DIFFER"), Reason.PARTS_DIFFER
    )
    assert found == Applied()
    await known.consumer.apply(failed(case, -1, "PARTS_DIFFER", run="run_late"))
    assert await known.sample("videoexport_export_replans_total", reason="PARTS_DIFFER") == 0
    assert await rows(rig, case.id) == before
    assert (await case.now()).replans == 0


async def test_order_of_a_stored_export_is_the_one_it_was_created_with(rig: Rig) -> None:
    case = await long_export(rig, seconds(0, 40), seconds(50, 90))
    assert order_of(case.record) == order(seconds(0, 40), seconds(50, 90), export_id=case.id)
