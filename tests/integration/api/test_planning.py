"""Plans that know what is there already."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from api_long import LONG_INFO, TOOLS, long_export, seconds
from api_parts import Parts
from api_planning import finish_whole, kinds, order, stored
from api_rig import INFO, OUTPUT, Rig

from services.api.states import ExportState
from services.common.content_key import RECIPE_VERSION
from services.common.errors import DomainError, Reason
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


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
