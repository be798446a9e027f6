"""Exports with copied pictures: planned so while that can be done, and encoded where it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from api_long import LONG_INFO, LongCase, seconds
from api_parts import Parts
from api_rig import NO_QUOTAS, SOURCE, Rig

from services.api.planning import order_of
from services.api.replanning import COPIES_DO_NOT_JOIN, MOST_REPLANS
from services.api.store.records import NewExport, Planned, Submission, source_key
from services.api.work import Order
from services.common import ids
from services.common.content_key import RECIPE_VERSION
from services.common.errors import DomainError, Reason
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

VERSION = task_pb2.TaskSource(source=SOURCE, etag="etag", size_bytes=1000)
COPIED = pb.ExportSettings(quality=pb.QUALITY_SOURCE)
INFO = pb.SourceInfo(
    video=pb.VideoStream(
        keyframes=range(0, 2400, 50), avc_configuration=b"\1", reordered_frames=2, bit_rate=10**6
    )
)
INFO.MergeFrom(LONG_INFO)


def order(*segments: pb.Segment, settings: pb.ExportSettings = COPIED) -> Order:
    return Order(ids.export_id(), "anna", VERSION, segments, settings)


async def stored(rig: Rig, wanted: Order, planned: Planned) -> LongCase:
    new = NewExport(
        id=wanted.export_id,
        user_id="anna",
        source=SOURCE,
        source_etag="etag",
        source_size_bytes=1000,
        segments=wanted.segments,
        settings=wanted.settings,
        priority=0,
        plan=planned.plan,
        warnings=planned.warnings,
        fingerprint=planned.fingerprint,
    )
    record = await rig.exports.create(new, planned.work, Submission(None, b"body"), NO_QUOTAS)
    return LongCase(rig, record, planned)


@pytest.fixture
async def known(parts: Parts, rig: Rig) -> Parts:
    """A replica that knows an encoder, and the source."""
    parts.encoder(gpu=1)
    await rig.tasks.keep_probe(source_key("anna", SOURCE), INFO)
    return parts


async def test_copied_output_is_made_in_parts_on_the_cpu_however_short(known: Parts) -> None:
    planned = await known.planner.plan(order(seconds(1, 7)), INFO)
    assert [task.kind for task in planned.work] == [*["VIDEO"] * 3, "AUDIO", "ASSEMBLE"]
    assert planned.work[0].lane is Lane.CPU
    assert planned.plan.quality == pb.QUALITY_SOURCE
    assert (planned.plan.copied_frame_count, planned.plan.chunk_count) == (100, 3)
    assert not planned.warnings


async def test_what_is_not_copied_is_planned_as_ever_with_a_warning(known: Parts) -> None:
    planned = await known.planner.plan(order(seconds(1, 3)), INFO)
    [task] = planned.work
    assert (task.kind, task.lane) == ("WHOLE", Lane.GPU)
    assert planned.plan.quality == pb.QUALITY_HIGH
    assert [item.code for item in planned.warnings] == ["COPY_NOT_POSSIBLE"]


async def test_encoded_parts_have_the_names_that_they_had_before_copies(known: Parts) -> None:
    encoded = pb.ExportSettings(quality=pb.QUALITY_HIGH)
    now = await known.planner.plan(order(settings=encoded), INFO)
    before = pb.SourceInfo()
    before.CopyFrom(INFO)
    before.video.ClearField("avc_configuration")
    before.video.ClearField("reordered_frames")
    then = await known.planner.plan(order(settings=encoded), before)
    assert [task.part_key for task in now.work] == [task.part_key for task in then.work]
    assert now.fingerprint == then.fingerprint


async def test_copies_have_the_sound_of_an_encode(known: Parts) -> None:
    copied = await known.planner.plan(order(), INFO)
    encoded = pb.ExportSettings(encoder=pb.ENCODER_PREFERENCE_CPU)
    other = await known.planner.plan(order(settings=encoded), INFO)
    assert copied.work[-2].kind == other.work[-2].kind == "AUDIO"
    assert copied.work[-2].part_key == other.work[-2].part_key


async def test_edit_leaves_most_copies_as_they_are(known: Parts) -> None:
    first = await known.planner.plan(order(seconds(1, 95)), INFO)
    moved = await known.planner.plan(order(seconds(3.2, 95)), INFO)
    before = {task.part_key for task in first.work if task.kind == "VIDEO"}
    after = {task.part_key for task in moved.work if task.kind == "VIDEO"}
    assert len(before & after) == len(after) - 2


async def test_source_that_an_older_version_examined_is_to_be_examined_again(known: Parts) -> None:
    with pytest.raises(DomainError) as refused:
        await known.planner.plan(order(), LONG_INFO)
    assert refused.value.reason is Reason.NO_ENCODER


@pytest.mark.parametrize("lane", [Lane.CPU, Lane.MUX])
async def test_copies_wait_until_every_encoder_knows_them(known: Parts, lane: Lane) -> None:
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    if lane is Lane.CPU:
        old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    else:
        old.mux_slots = 1
    known.encoders.heard(old)
    with pytest.raises(DomainError) as refused:
        await known.planner.plan(order(), INFO)
    assert refused.value.reason is Reason.NO_ENCODER
    assert await known.planner.plan(order(seconds(1, 3)), INFO)
    old.recipe_version = RECIPE_VERSION
    known.encoders.heard(old)
    assert await known.planner.plan(order(), INFO)


async def fail(known: Parts, case: LongCase, index: int, code: str, message: str) -> None:
    word = task_pb2.TaskFailed(code=code, message=message)
    await known.consumer.apply(case.event(case.run(), task=case.work[index].id, failed=word))


async def kinds(rig: Rig, case: LongCase) -> set[object]:
    rows = await rig.sql("SELECT kind FROM tasks WHERE export_id = %s", case.id)
    return {row["kind"] for row in rows}


async def test_source_that_cannot_be_copied_after_all_is_encoded_with_a_warning(
    known: Parts, rig: Rig
) -> None:
    wanted = order(seconds(1, 20))
    case = await stored(rig, wanted, await known.planner.plan(wanted, INFO))
    await rig.dispatch()
    await fail(known, case, 1, "COPY_FAILED", "They are not.")
    record = await case.now()
    assert record.plan is not None
    assert (record.plan.quality, record.plan.copied_frame_count) == (pb.QUALITY_HIGH, 0)
    assert [(item.code, item.message) for item in record.warnings] == [
        ("COPY_NOT_POSSIBLE", "They are not.")
    ]
    assert await kinds(rig, case) == {"WHOLE"}
    # Whatever it is planned again for, copying is not tried any more.
    again = await known.planner.plan(order_of(record), INFO)
    assert again.plan.quality == pb.QUALITY_HIGH
    assert [item.message for item in again.warnings] == ["They are not."]


async def test_copying_is_given_up_however_often_an_export_was_planned_again(
    known: Parts, rig: Rig
) -> None:
    wanted = order(seconds(1, 20))
    case = await stored(rig, wanted, await known.planner.plan(wanted, INFO))
    await rig.dispatch()
    await rig.sql("UPDATE exports SET replans = %s", MOST_REPLANS)
    await fail(known, case, 1, "COPY_FAILED", "They are not.")
    assert await kinds(rig, case) == {"WHOLE"}


async def test_copy_that_cannot_be_planned_otherwise_at_the_moment_is_tried_again(
    known: Parts, rig: Rig
) -> None:
    wanted = order(seconds(1, 20))
    case = await stored(rig, wanted, await known.planner.plan(wanted, INFO))
    await rig.dispatch()
    old = pb.Encoder(id="old")
    old.capabilities.add(family=pb.ENCODER_FAMILY_NVENC, available=True, slots=1)
    known.encoders.heard(old)
    await fail(known, case, 1, "COPY_FAILED", "They are not.")
    [task] = await rig.sql("SELECT state, failures FROM tasks WHERE id = %s", case.work[1].id)
    assert task == {"state": "PENDING", "failures": 1}
    assert (await case.now()).error is None
    old.draining = True
    known.encoders.heard(old)
    [attempt] = await rig.sql("SELECT attempt FROM tasks WHERE id = %s", case.work[1].id)
    word = task_pb2.TaskFailed(code="COPY_FAILED", message="They are not.")
    again = case.event(case.run(), task=case.work[1].id, failed=word)
    again.attempt = attempt["attempt"]
    await known.consumer.apply(again)
    assert await kinds(rig, case) == {"WHOLE"}


@pytest.mark.parametrize(
    ("index", "code"),
    [(0, "ENCODER_FAILED"), (1, "OUTPUT_MISMATCH"), (1, "WORKER_LOST"), (-1, "TIME_LIMIT")],
)
async def test_export_is_encoded_where_anything_of_copying_fails_for_the_last_time(
    known: Parts, rig: Rig, index: int, code: str
) -> None:
    wanted = order(seconds(1, 95))
    case = await stored(rig, wanted, await known.planner.plan(wanted, INFO))
    await case.ready_to_join()
    task = case.work[index].id
    await rig.sql("UPDATE tasks SET state = 'RUNNING', failures = 3 WHERE id = %s", task)
    await fail(known, case, index, code, "It broke.")
    record = await case.now()
    assert record.plan is not None
    assert record.plan.quality == pb.QUALITY_HIGH
    [warning] = record.warnings
    assert warning.code == "COPY_NOT_POSSIBLE"
    assert warning.message.endswith("encoded instead of copied: It broke.")


async def test_source_that_cannot_be_read_is_not_encoded_instead(known: Parts, rig: Rig) -> None:
    wanted = order(seconds(1, 20))
    case = await stored(rig, wanted, await known.planner.plan(wanted, INFO))
    await rig.dispatch()
    await rig.sql("UPDATE tasks SET failures = 3")
    await fail(known, case, 1, "SOURCE_UNAVAILABLE", "Nobody answers.")
    error = (await case.now()).error
    assert error is not None
    assert error.code == "SOURCE_UNAVAILABLE"


async def test_copies_that_do_not_join_are_encoded_with_a_warning(known: Parts, rig: Rig) -> None:
    wanted = order(seconds(1, 95))
    case = await stored(rig, wanted, await known.planner.plan(wanted, INFO))
    await case.ready_to_join()
    await fail(known, case, -1, "PARTS_DIFFER", "They do not join.")
    record = await case.now()
    assert record.plan is not None
    assert record.plan.quality == pb.QUALITY_HIGH
    assert [item.message for item in record.warnings] == [COPIES_DO_NOT_JOIN]
    assert record.generation == 1
    assert await kinds(rig, case) == {"VIDEO", "AUDIO", "ASSEMBLE"}


async def test_copy_that_vanished_is_copied_again(known: Parts, rig: Rig) -> None:
    wanted = order(seconds(1, 95))
    case = await stored(rig, wanted, await known.planner.plan(wanted, INFO))
    await case.ready_to_join()
    gone = replace(case.work[1]).part_key or b""
    word = task_pb2.TaskFailed(code="PART_MISSING", message="Gone.", missing_keys=[gone])
    await known.consumer.apply(case.event(case.run(), task=case.work[-1].id, failed=word))
    record = await case.now()
    assert record.plan is not None
    assert record.plan.quality == pb.QUALITY_SOURCE
    assert not record.warnings
    rows = await rig.sql("SELECT part_key FROM tasks WHERE state = 'PENDING'")
    assert [row["part_key"] for row in rows] == [gone]
