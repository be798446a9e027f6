"""Plans that know what is there already, and plans made again where the first cannot go on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from api_long import CPU, GPU, LONG_INFO, TOOLS, LongCase, long_export, seconds
from api_parts import Parts
from api_rig import INFO, NO_QUOTAS, OUTPUT, SOURCE, Rig

from services.api.planning import order_of
from services.api.replanning import MOST_REPLANS
from services.api.states import ExportState
from services.api.store.records import NewExport, Planned, Submission, source_key
from services.api.store.tasks import Applied
from services.api.work import Order
from services.common import ids
from services.common.content_key import RECIPE_VERSION
from services.common.errors import DomainError, Reason
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

VERSION = task_pb2.TaskSource(source=SOURCE, etag="etag", size_bytes=1000)


def order(*segments: pb.Segment, export_id: str = "", user: str = "anna") -> Order:
    return Order(export_id, user, VERSION, segments, pb.ExportSettings())


def kinds(planned: Planned) -> set[str]:
    return {task.kind for task in planned.work}


# What is made, and how


async def test_output_up_to_the_threshold_is_made_whole_and_a_longer_one_in_parts(
    parts: Parts,
) -> None:
    parts.encoder()
    whole = await parts.planner.plan(order(seconds(0, 60)), LONG_INFO)
    assert kinds(whole) == {"WHOLE"}
    assert whole.plan.chunk_count == 0
    longer = await parts.planner.plan(order(seconds(0, 60.04)), LONG_INFO)
    assert kinds(longer) == {"VIDEO", "AUDIO", "ASSEMBLE"}
    assert longer.plan.chunk_count == len(longer.work) - 2


async def test_threshold_and_length_of_chunks_are_settings(rig: Rig, parts: Parts) -> None:
    other = Parts(rig, parts.nats, chunk_threshold_seconds=10, chunk_seconds=5)
    planned = await other.planner.plan(order(seconds(0, 20)), LONG_INFO)
    assert planned.plan.chunk_count == 4


async def test_time_limits_of_encodes_are_settings(rig: Rig, parts: Parts) -> None:
    other = Parts(rig, parts.nats, encode_limit_floor_seconds=7200, encode_limit_factor=1)
    for each, least in ((parts, 600), (other, 7200)):
        planned = await each.planner.plan(order(seconds(0, 20)), LONG_INFO)
        limit = task_pb2.Task.FromString(planned.work[0].message).whole.time_limit
        assert least < limit.seconds < least + 600


async def test_parts_are_named_for_the_toolchain_of_most_slots(parts: Parts) -> None:
    parts.encoder("a", cpu=2)
    other = pb.Encoder(id="b", ffmpeg_build="other", encoder_threads=1)
    other.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    parts.encoders.heard(other)
    assert parts.encoders.toolchain(pb.ENCODER_FAMILY_CPU) == TOOLS
    other.capabilities[0].slots = 3
    parts.encoders.heard(other)
    assert parts.encoders.toolchain(pb.ENCODER_FAMILY_CPU).build == "other"
    other.draining = True
    parts.encoders.heard(other)
    assert parts.encoders.toolchain(pb.ENCODER_FAMILY_CPU) == TOOLS


@pytest.mark.parametrize("fit", [pb.FIT_CROP, pb.FIT_STRETCH])
async def test_what_an_older_encoder_would_pass_over_is_refused_while_one_is_live(
    parts: Parts, fit: pb.Fit.ValueType
) -> None:
    wanted = replace(order(), settings=pb.ExportSettings(fit=fit))
    assert (await parts.planner.plan(wanted, INFO)).plan.fit == fit
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    parts.encoders.heard(old)
    with pytest.raises(DomainError) as refused:
        await parts.planner.plan(wanted, INFO)
    assert refused.value.reason is Reason.NO_ENCODER
    assert (await parts.planner.plan(order(), INFO)).plan.fit == pb.FIT_PAD
    for change in ({"draining": True}, {"recipe_version": RECIPE_VERSION}):
        changed = pb.Encoder(**change)
        changed.MergeFrom(old)
        parts.encoders.heard(changed)
        assert (await parts.planner.plan(wanted, INFO)).plan.fit == fit


async def test_output_is_compared_with_its_source_where_that_is_asked_for(parts: Parts) -> None:
    wanted = replace(order(), settings=pb.ExportSettings(measure_quality=True))
    plain = await parts.planner.plan(order(), INFO)
    assert kinds(plain) == {"WHOLE"}
    planned = await parts.planner.plan(wanted, INFO)
    assert [task.kind for task in planned.work] == ["WHOLE", "MEASURE"]
    assert planned.fingerprint == plain.fingerprint, "the file is the same"
    message = task_pb2.Task.FromString(planned.work[-1].message)
    assert sum(span.end_frame - span.start_frame for span in message.measure.spans) == 100
    estimates = [each.plan.estimated_processing_time.ToTimedelta() for each in (plain, planned)]
    assert estimates[0] < estimates[1]
    long = await parts.planner.plan(wanted, LONG_INFO)
    assert kinds(long) == {"VIDEO", "AUDIO", "ASSEMBLE", "MEASURE"}


async def test_file_that_is_taken_over_is_compared_once(rig: Rig, parts: Parts) -> None:
    wanted = replace(order(), settings=pb.ExportSettings(measure_quality=True))
    planned = await parts.planner.plan(order(), INFO)
    case = await rig.create()
    await case.complete()
    await rig.sql("UPDATE exports SET fingerprint = %s", planned.fingerprint)
    again = await parts.planner.plan(wanted, INFO)
    assert [task.kind for task in again.work] == ["COPY", "MEASURE"]
    await rig.sql(
        "UPDATE exports SET output = output || %s::jsonb",
        '{"verification": {"quality": {"vmaf_mean": 95}}}',
    )
    assert kinds(await parts.planner.plan(wanted, INFO)) == {"COPY"}


async def test_comparison_waits_until_every_encoder_knows_it(parts: Parts) -> None:
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    parts.encoders.heard(old)
    wanted = replace(order(), settings=pb.ExportSettings(measure_quality=True))
    with pytest.raises(DomainError, match="measure_quality"):
        await parts.planner.plan(wanted, INFO)


@pytest.mark.parametrize(
    "particular",
    [
        pb.SourceInfo(video=pb.VideoStream(field_order=pb.FIELD_ORDER_TOP_FIRST)),
        pb.SourceInfo(time_breaks=[pb.TimeBreak(position=188, frame=10)]),
    ],
)
async def test_source_that_older_encoders_take_for_another_waits_for_newer_ones(
    parts: Parts, particular: pb.SourceInfo
) -> None:
    info = pb.SourceInfo()
    info.CopyFrom(INFO)
    info.MergeFrom(particular)
    assert await parts.planner.plan(order(), info)
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    parts.encoders.heard(old)
    with pytest.raises(DomainError) as refused:
        await parts.planner.plan(order(), info)
    assert refused.value.reason is Reason.NO_ENCODER
    assert await parts.planner.plan(order(), INFO)


@pytest.mark.parametrize("lane", [Lane.CPU, Lane.MUX])
async def test_loudness_waits_until_whoever_may_make_sound_knows_it(
    parts: Parts, lane: Lane
) -> None:
    wanted = replace(order(), settings=pb.ExportSettings(loudness_lufs=-16))
    assert (await parts.planner.plan(wanted, LONG_INFO)).plan.loudness_lufs == -16
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    if lane is Lane.CPU:
        old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    else:
        old.mux_slots = 1
    parts.encoders.heard(old)
    with pytest.raises(DomainError) as refused:
        await parts.planner.plan(wanted, LONG_INFO)
    assert refused.value.reason is Reason.NO_ENCODER
    # Without sound there is nothing to make louder.
    assert not (await parts.planner.plan(wanted, INFO)).plan.HasField("loudness_lufs")
    assert await parts.planner.plan(order(), LONG_INFO)


TWO_SOUNDS = pb.SourceInfo(
    audio_streams=[LONG_INFO.audio, pb.AudioStream(index=2, language="deu", channels=2)]
)
TWO_SOUNDS.MergeFrom(LONG_INFO)


async def test_another_sound_is_made_beside_the_same_pictures(parts: Parts) -> None:
    async def keys(**settings: float) -> tuple[set[bytes | None], bytes | None, bytes]:
        wanted = replace(order(), settings=pb.ExportSettings(**settings))
        planned = await parts.planner.plan(wanted, TWO_SOUNDS)
        *video, sound, _ = planned.work
        return {task.part_key for task in video}, sound.part_key, planned.fingerprint

    default = await keys()
    assert await keys(audio_stream=1) == default
    others = [
        await keys(audio_stream=2),
        await keys(loudness_lufs=-16),
        await keys(loudness_lufs=-17),
    ]
    assert {frozenset(pictures) for pictures, _, _ in others} == {frozenset(default[0])}
    assert len({default[1], *(sound for _, sound, _ in others)}) == 4
    assert len({default[2], *(fingerprint for _, _, fingerprint in others)}) == 4


async def test_stream_is_asked_for_of_sources_alone_whose_sound_is_known(parts: Parts) -> None:
    wanted = replace(order(), settings=pb.ExportSettings(audio_stream=1))
    with pytest.raises(DomainError) as refused:
        await parts.planner.plan(wanted, LONG_INFO)
    assert refused.value.reason is Reason.NO_ENCODER
    assert (await parts.planner.plan(wanted, TWO_SOUNDS)).plan.audio_stream == 1
    with pytest.raises(DomainError) as refused:
        await parts.planner.plan(wanted, INFO)
    assert refused.value.reason is Reason.INVALID_REQUEST


async def test_estimate_is_of_what_is_left_to_encode_on_all_slots(parts: Parts, rig: Rig) -> None:
    parts.encoder(cpu=4)
    await rig.sql(
        "INSERT INTO encode_speeds (family, resolution, quality, frames_per_second, samples)"
        " VALUES ('ENCODER_FAMILY_CPU', 'RESOLUTION_720P', 'QUALITY_MEDIUM', 10, 1)"
    )
    fresh = await parts.planner.plan(order(), LONG_INFO)
    # 2400 frames of pictures on four slots, the sound beside them, then 48 of the assembly.
    assert fresh.plan.estimated_processing_time.ToTimedelta() == timedelta(seconds=64.8 + 1)
    await (await long_export(rig)).finish()
    again = await parts.planner.plan(order(), LONG_INFO)
    assert again.plan.estimated_processing_time.ToTimedelta() == timedelta(seconds=4.8 + 1)


async def test_plan_says_what_earlier_exports_have_made(parts: Parts, rig: Rig) -> None:
    parts.encoder()
    await (await long_export(rig, seconds(0, 80))).finish()
    planned = await parts.planner.plan(order(seconds(0, 40), seconds(0, 40)), LONG_INFO)
    assert planned.plan.reusable_frame_count == 2000
    assert all(task.made and task.reused for task in planned.work if task.kind == "VIDEO")
    other = await parts.planner.plan(order(seconds(0, 80), user="ben"), LONG_INFO)
    assert other.plan.reusable_frame_count == 0
    assert not any(task.made for task in other.work)


async def test_identical_finished_export_is_copied_for_its_owner_alone(
    parts: Parts, rig: Rig
) -> None:
    parts.encoder()
    first = await stored(rig, await parts.planner.plan(order(), INFO))
    await rig.dispatch()
    await finish_whole(rig, first)
    planned = await parts.planner.plan(order(), INFO)
    assert kinds(planned) == {"COPY"}
    assert planned.plan.reusable_frame_count == planned.plan.frame_count
    task = task_pb2.Task.FromString(planned.work[0].message)
    assert (task.copy.export_id, task.copy.run_id) == (first.id, "run_whole")
    assert task.copy.output.sha256 == OUTPUT.sha256
    assert kinds(await parts.planner.plan(order(user="ben"), INFO)) == {"WHOLE"}
    assert kinds(await parts.planner.plan(order(seconds(0, 1)), INFO)) == {"WHOLE"}
    assert kinds(await parts.planner.plan(order(), INFO, copies=False)) == {"WHOLE"}


@pytest.mark.parametrize("recipe", [0, 1])
async def test_file_of_an_older_encoder_is_not_taken_for_one_of_now(
    parts: Parts, rig: Rig, recipe: int
) -> None:
    parts.encoder()
    first = await stored(rig, await parts.planner.plan(order(), INFO))
    await rig.dispatch()
    await finish_whole(rig, first, recipe=recipe)
    assert (await first.now()).state is ExportState.COMPLETED
    assert kinds(await parts.planner.plan(order(), INFO)) == {"WHOLE"}


async def test_parts_of_an_older_encoder_are_not_taken_for_some_of_now(
    known: Parts, rig: Rig
) -> None:
    planned = await known.planner.plan(order(), LONG_INFO)
    case = await stored(rig, planned)
    await rig.dispatch()
    # It names what it makes by its own recipe.
    first, *others = [task for task in case.work if task.part_key is not None]
    await case.made(first, key=b"k" * 32, recipe=1)
    again = await known.planner.plan(order(), LONG_INFO)
    assert not any(task.made for task in again.work)
    # The file is partly its work, whoever makes the rest and joins it.
    for task in others:
        await case.made(task)
    await rig.dispatch()
    await case.joined()
    assert (await case.now()).state is ExportState.COMPLETED
    last = await known.planner.plan(order(), LONG_INFO)
    assert kinds(last) == {"VIDEO", "AUDIO", "ASSEMBLE"}
    assert [task.part_key for task in last.work if task.part_key and not task.made] == [
        first.part_key
    ]


async def stored(rig: Rig, planned: Planned) -> LongCase:
    """Store an export of anna's as it was planned."""
    new = NewExport(
        id=ids.export_id(),
        user_id="anna",
        source=SOURCE,
        source_etag="etag",
        source_size_bytes=1000,
        segments=(),
        settings=pb.ExportSettings(),
        priority=0,
        plan=planned.plan,
        fingerprint=planned.fingerprint,
    )
    record = await rig.exports.create(new, planned.work, Submission(None, b""), NO_QUOTAS)
    return LongCase(rig, record, planned)


async def finish_whole(rig: Rig, case: LongCase, *, recipe: int = RECIPE_VERSION) -> None:
    done = task_pb2.TaskSucceeded(output=OUTPUT, recipe_version=recipe)
    event = case.event("run_whole", task=case.work[0].id, succeeded=done)
    assert (await rig.tasks.output_succeeded(event, retention=timedelta(days=30))).changed


# Planned again


@pytest.fixture
async def known(parts: Parts, rig: Rig) -> Parts:
    """A replica that knows an encoder, and the source."""
    parts.encoder()
    await rig.tasks.keep_probe(source_key("anna", SOURCE), LONG_INFO)
    return parts


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


TOLD = pb.SourceInfo(
    metadata=pb.SourceMetadata(
        tags=[pb.MetadataTag(key="title", value="Talk")],
        location_and_device=[pb.MetadataTag(key="make", value="Maker")],
    ),
    chapters=[pb.Chapter(end_time=seconds(0, 50).end_time, title="One")],
)
TOLD.MergeFrom(LONG_INFO)


async def test_what_an_output_says_of_itself_changes_no_part_but_the_output(parts: Parts) -> None:
    async def keys(info: pb.SourceInfo, *, keep: bool = False) -> tuple[set[bytes | None], bytes]:
        settings = pb.ExportSettings(keep_location_and_device=keep)
        planned = await parts.planner.plan(replace(order(), settings=settings), info)
        return {task.part_key for task in planned.work}, planned.fingerprint

    plain, told = await keys(LONG_INFO), await keys(TOLD)
    kept = await keys(TOLD, keep=True)
    assert plain[0] == told[0] == kept[0]
    assert len({plain[1], told[1], kept[1]}) == 3
    other = pb.SourceInfo()
    other.CopyFrom(TOLD)
    other.chapters[0].title = "Another"
    assert (await keys(other))[1] != told[1]


async def test_assembly_says_what_the_output_is_to_say_of_itself(parts: Parts) -> None:
    planned = await parts.planner.plan(order(seconds(40, 90), seconds(0, 20)), TOLD)
    work = task_pb2.Task.FromString(planned.work[-1].message).assemble
    assert [(each.start_frame, each.end_frame) for each in work.plan.metadata.chapters] == [
        (0, 250),
        (1250, 1750),
    ]
    assert [tag.value for tag in work.plan.metadata.tags] == ["Talk"]


@pytest.mark.parametrize("lane", [Lane.CPU, Lane.MUX])
async def test_place_and_device_wait_until_whoever_may_write_them_knows_them(
    parts: Parts, lane: Lane
) -> None:
    wanted = replace(order(), settings=pb.ExportSettings(keep_location_and_device=True))
    assert (await parts.planner.plan(wanted, TOLD)).plan.metadata.has_location_and_device
    with pytest.raises(DomainError, match="does not tell all of it yet"):
        await parts.planner.plan(wanted, LONG_INFO)
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    if lane is Lane.CPU:
        old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    else:
        old.mux_slots = 1
    parts.encoders.heard(old)
    with pytest.raises(DomainError, match="knows keep_location_and_device yet"):
        await parts.planner.plan(wanted, TOLD)
    with pytest.raises(DomainError, match="knows tags, chapters and languages yet"):
        await parts.planner.plan(order(), TOLD)
    assert await parts.planner.plan(order(), LONG_INFO)


SPOKEN = pb.SourceInfo(
    subtitle_streams=[pb.SubtitleStream(index=number, text=True) for number in (2, 3)],
    metadata=pb.SourceMetadata(),
)
SPOKEN.MergeFrom(LONG_INFO)


async def test_burnt_subtitles_are_in_the_chunks_keys_and_kept_ones_are_not(parts: Parts) -> None:
    async def planned(*segments: pb.Segment, **subtitles: int) -> Planned:
        settings = pb.ExportSettings()
        if subtitles:
            settings.subtitles.CopyFrom(pb.SubtitleSettings(**subtitles))  # type: ignore[arg-type]
        return await parts.planner.plan(replace(order(*segments), settings=settings), SPOKEN)

    def pictures(found: Planned) -> set[bytes | None]:
        return {task.part_key for task in found.work if task.kind == "VIDEO"}

    plain, kept = await planned(), await planned(stream=2)
    assert pictures(kept) == pictures(plain)
    assert kept.fingerprint != plain.fingerprint
    work = task_pb2.Task.FromString(kept.work[-1].message).assemble
    assert [(span.start_frame, span.end_frame) for span in work.subtitles.spans] == [(0, 2400)]
    assert not task_pb2.Task.FromString(plain.work[-1].message).assemble.HasField("subtitles")
    burn_in = pb.SUBTITLE_MODE_BURN_IN
    burnt, other = await planned(stream=2, mode=burn_in), await planned(stream=3, mode=burn_in)
    assert not pictures(burnt) & (pictures(plain) | pictures(other))
    assert burnt.fingerprint not in (kept.fingerprint, other.fingerprint)
    chunk = task_pb2.Task.FromString(burnt.work[0].message).video.chunk
    assert chunk.burnt_subtitles == 2
    assert not chunk.info.subtitle_streams
    # What is cut elsewhere leaves them as they are.
    cut = await planned(seconds(0, 40), seconds(41, 96), stream=2, mode=burn_in)
    assert len(pictures(cut) & pictures(burnt)) >= len(pictures(burnt)) - 2


@pytest.mark.parametrize("lane", [Lane.CPU, Lane.MUX])
async def test_subtitles_wait_until_whoever_may_make_them_knows_them(
    parts: Parts, lane: Lane
) -> None:
    settings = pb.ExportSettings(subtitles=pb.SubtitleSettings(stream=2))
    wanted = replace(order(), settings=settings)
    assert (await parts.planner.plan(wanted, SPOKEN)).plan.subtitles.stream == 2
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    if lane is Lane.CPU:
        old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    else:
        old.mux_slots = 1
    parts.encoders.heard(old)
    with pytest.raises(DomainError, match="knows subtitles yet"):
        await parts.planner.plan(wanted, SPOKEN)


async def test_watermark_is_in_the_chunks_keys_with_the_version_of_its_image(parts: Parts) -> None:
    async def keys(**watermark: object) -> tuple[frozenset[bytes | None], bytes]:
        settings = pb.ExportSettings()
        if watermark:
            settings.watermark.CopyFrom(pb.Watermark(**watermark))  # type: ignore[arg-type]
        planned = await parts.planner.plan(replace(order(), settings=settings), LONG_INFO)
        pictures = {task.part_key for task in planned.work if task.kind == "VIDEO"}
        return frozenset(pictures), planned.fingerprint

    plain, image = await keys(), pb.Source(video_id="vid_1")
    marked = await keys(image=image, etag="1")
    assert marked == await keys(image=image, etag="1", width=0.15, opacity=1.0)
    others = [
        await keys(image=image, etag="2"),
        await keys(image=image, etag="1", opacity=0.5),
        await keys(image=image, etag="1", width=0.2),
        await keys(image=image, etag="1", margin=0.0),
        await keys(image=image, etag="1", position=pb.WATERMARK_POSITION_CENTER),
    ]
    found = [plain, marked, *others]
    assert len({pictures for pictures, _ in found}) == len(found)
    assert len({fingerprint for _, fingerprint in found}) == len(found)


async def test_watermark_waits_until_whoever_may_draw_it_knows_it(parts: Parts) -> None:
    watermark = pb.Watermark(image=pb.Source(video_id="vid_1"))
    wanted = replace(order(), settings=pb.ExportSettings(watermark=watermark))
    assert (await parts.planner.plan(wanted, LONG_INFO)).plan.watermark.opacity == 1
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    parts.encoders.heard(old)
    with pytest.raises(DomainError, match="knows watermark yet"):
        await parts.planner.plan(wanted, LONG_INFO)


@pytest.mark.parametrize("name", ["poster", "sprites"])
@pytest.mark.parametrize("lane", [Lane.CPU, Lane.MUX])
async def test_stills_change_no_part_and_wait_until_whoever_may_make_them_knows_them(
    parts: Parts, name: str, lane: Lane
) -> None:
    settings = pb.ExportSettings()
    getattr(settings, name).SetInParent()
    plain = await parts.planner.plan(order(), LONG_INFO)
    planned = await parts.planner.plan(replace(order(), settings=settings), LONG_INFO)
    assert {task.part_key for task in planned.work} == {task.part_key for task in plain.work}
    assert planned.fingerprint != plain.fingerprint
    work = task_pb2.Task.FromString(planned.work[-1].message).assemble
    assert work.plan.HasField(name)  # type: ignore[arg-type]
    old = pb.Encoder(id="old", ffmpeg_build="build", encoder_threads=1)
    if lane is Lane.CPU:
        old.capabilities.add(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)
    else:
        old.mux_slots = 1
    parts.encoders.heard(old)
    with pytest.raises(DomainError, match=f"knows {name} yet"):
        await parts.planner.plan(replace(order(), settings=settings), LONG_INFO)
