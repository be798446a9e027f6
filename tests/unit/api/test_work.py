"""From an export to its tasks: families, and the messages that encoders get."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from api_records import EXPORT, PLAN
from hypothesis import given
from hypothesis import strategies as st

from services.api.store.records import source_key
from services.api.work import Order, TimeLimits, probe_task, whole_task, work_in_parts
from services.common.caller import is_id
from services.common.content_key import Toolchain, audio_key, video_key
from services.common.families import choose_family
from services.common.planner import plan_export
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

CPU, NVENC = pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC
SOURCE = task_pb2.TaskSource(
    source=pb.Source(video_id="vid_" + "0" * 32), etag="etag", size_bytes=99
)
ORDER = Order(EXPORT, "anna", SOURCE, (), pb.ExportSettings())
INFO = pb.SourceInfo(container="mov", etag="etag")


@pytest.mark.parametrize(
    ("preference", "gpu_live", "family", "warned"),
    [
        (pb.ENCODER_PREFERENCE_UNSPECIFIED, False, CPU, False),
        (pb.ENCODER_PREFERENCE_UNSPECIFIED, True, NVENC, False),
        (pb.ENCODER_PREFERENCE_AUTO, False, CPU, False),
        (pb.ENCODER_PREFERENCE_AUTO, True, NVENC, False),
        (pb.ENCODER_PREFERENCE_CPU, False, CPU, False),
        (pb.ENCODER_PREFERENCE_CPU, True, CPU, False),
        (pb.ENCODER_PREFERENCE_GPU, False, CPU, True),
        (pb.ENCODER_PREFERENCE_GPU, True, NVENC, False),
    ],
)
def test_family_follows_preference_and_what_is_live(
    preference: pb.EncoderPreference.ValueType,
    gpu_live: bool,
    family: pb.EncoderFamily.ValueType,
    warned: bool,
) -> None:
    choice = choose_family(preference, gpu_live=gpu_live)
    assert choice.family == family
    assert choice.lane is (Lane.GPU if family == NVENC else Lane.CPU)
    assert choice.reason.endswith(".")
    assert [item.code for item in choice.warnings] == (["GPU_FALLBACK"] if warned else [])


def test_reasons_tell_the_cases_apart() -> None:
    reasons = {
        choose_family(preference, gpu_live=live).reason
        for preference, live in [
            (pb.ENCODER_PREFERENCE_CPU, True),
            (pb.ENCODER_PREFERENCE_AUTO, True),
            (pb.ENCODER_PREFERENCE_AUTO, False),
            (pb.ENCODER_PREFERENCE_GPU, False),
        ]
    }
    assert len(reasons) == 4


def test_probe_task_names_export_owner_and_version() -> None:
    task = probe_task(EXPORT, "anna", SOURCE)
    message = task_pb2.Task.FromString(task.message)
    assert message == task_pb2.Task(
        task_id=task.id,
        export_id=EXPORT,
        user_id="anna",
        source=SOURCE,
        probe=task_pb2.ProbeTask(),
    )
    assert message.WhichOneof("work") == "probe"
    assert (task.kind, task.lane, task.frames) == ("PROBE", Lane.PROBE, 0)
    assert is_id(task.id, "tsk")


def test_whole_task_is_its_whole_input() -> None:
    choice = choose_family(pb.ENCODER_PREFERENCE_AUTO, gpu_live=False)
    task = whole_task(ORDER, INFO, PLAN, choice)
    message = task_pb2.Task.FromString(task.message)
    assert message == task_pb2.Task(
        task_id=task.id,
        export_id=EXPORT,
        user_id="anna",
        source=SOURCE,
        whole=task_pb2.WholeTask(
            info=INFO,
            plan=PLAN,
            family=CPU,
            family_reason=choice.reason,
            time_limit=message.whole.time_limit,
            tolerate_damage=True,
        ),
    )
    # Ten minutes, and twenty times what libx264 takes at 70 million pixels a second.
    pixels = PLAN.width * PLAN.height * PLAN.frame_count
    limit = message.whole.time_limit.ToTimedelta().total_seconds()
    assert limit == pytest.approx(600 + 20 * pixels / 70e6)
    assert (task.kind, task.lane, task.frames) == ("WHOLE", Lane.CPU, 500)


def test_time_limits_are_those_of_the_order() -> None:
    limits = TimeLimits(timedelta(seconds=5), 3)
    choice = choose_family(pb.ENCODER_PREFERENCE_CPU, gpu_live=False)
    task = whole_task(replace(ORDER, limits=limits), INFO, PLAN, choice)
    limit = task_pb2.Task.FromString(task.message).whole.time_limit.ToTimedelta()
    pixels = PLAN.width * PLAN.height * PLAN.frame_count
    assert limit.total_seconds() == pytest.approx(5 + 3 * pixels / 70e6)


def test_two_tasks_of_one_export_have_ids_of_their_own() -> None:
    assert probe_task(EXPORT, "anna", SOURCE).id != probe_task(EXPORT, "anna", SOURCE).id


def test_uploads_are_their_owners_alone_and_objects_of_a_bucket_are_shared() -> None:
    video = pb.Source(video_id="vid_1")
    assert source_key("anna", video) != source_key("ben", video)
    shared = pb.Source(s3_object=pb.S3Object(bucket="b", key="k"))
    assert source_key("anna", shared) == source_key("ben", shared)
    other = pb.Source(s3_object=pb.S3Object(bucket="b2", key="k"))
    assert source_key("anna", shared) != source_key("anna", other)


# In parts

TOOLS = Toolchain("build", 2)
CHOICE = choose_family(pb.ENCODER_PREFERENCE_CPU, gpu_live=False)
LONG = pb.SourceInfo(
    container="mov",
    etag="etag",
    video=pb.VideoStream(
        frame_rate=pb.Rational(numerator=25, denominator=1),
        frame_count=15_000,
        width=1280,
        height=720,
        keyframes=range(0, 15_000, 50),
    ),
    audio=pb.AudioStream(index=1, sample_rate=48_000, channels=2),
)


def plan_of(*spans: tuple[int, int], info: pb.SourceInfo = LONG) -> pb.Plan:
    segments = []
    for start, end in spans:
        segment = pb.Segment()
        segment.start_time.FromNanoseconds(start * 40_000_000)
        segment.end_time.FromNanoseconds(end * 40_000_000)
        segments.append(segment)
    return plan_export(info, segments, pb.ExportSettings())


def parts(*spans: tuple[int, int], **changes: Any) -> list[task_pb2.Task]:
    """Return the tasks of an output of these frames."""
    order = replace(ORDER, **changes)
    tasks = work_in_parts(order, LONG, plan_of(*spans), CHOICE, TOOLS, chunk_seconds=8)
    return [task_pb2.Task.FromString(task.message) for task in tasks]


def frames_of(tasks: list[task_pb2.Task]) -> list[tuple[int, int]]:
    chunks = [task.video.chunk for task in tasks if task.HasField("video")]
    return [(chunk.start_frame, chunk.end_frame) for chunk in chunks]


def keys_of(*spans: tuple[int, int], **changes: Any) -> list[bytes]:
    order = replace(ORDER, **changes)
    tasks = work_in_parts(order, LONG, plan_of(*spans), CHOICE, TOOLS, chunk_seconds=8)
    return [task.part_key for task in tasks if task.kind == "VIDEO" and task.part_key]


def test_long_output_is_made_in_chunks_with_one_sound_and_one_assembly() -> None:
    *chunks, sound, assembly = parts((0, 1000), (2000, 2500))
    assert [task.WhichOneof("work") for task in chunks] == ["video"] * len(chunks)
    assert frames_of(chunks)[:2] == [(0, 200), (200, 400)]
    spans = [(span.start_frame, span.end_frame) for span in sound.audio.soundtrack.spans]
    assert spans == [(0, 1000), (2000, 2500)]
    joined = assembly.assemble
    assert sum(part.frame_count for part in joined.video) == 1500
    assert (joined.plan.frame_count, len(joined.plan.segments)) == (1500, 0)
    assert (joined.family, joined.family_reason) == (CPU, CHOICE.reason)
    for task in (*chunks, sound, assembly):
        assert (task.export_id, task.user_id, task.source) == (EXPORT, "anna", SOURCE)


def test_encoder_and_planner_name_parts_alike() -> None:
    tasks = work_in_parts(ORDER, LONG, plan_of((0, 1000)), CHOICE, TOOLS, chunk_seconds=8)
    *chunks, sound, assembly = tasks
    for chunk in chunks:
        message = task_pb2.Task.FromString(chunk.message).video.chunk
        assert chunk.part_key == video_key("anna", SOURCE, message, TOOLS)
    track = task_pb2.Task.FromString(sound.message).audio.soundtrack
    assert sound.part_key == audio_key("anna", SOURCE, track, TOOLS)
    joined = task_pb2.Task.FromString(assembly.message).assemble
    assert [part.key for part in joined.video] == [chunk.part_key for chunk in chunks]
    assert joined.audio_key == sound.part_key


def test_chunk_knows_the_keyframe_to_read_from_and_no_other() -> None:
    *chunks, _, _ = parts((70, 1000))
    assert [list(task.video.chunk.info.video.keyframes) for task in chunks[:2]] == [[50], [200]]


def test_contiguous_segments_are_one_range() -> None:
    assert frames_of(parts((0, 500), (500, 1000))) == frames_of(parts((0, 1000)))
    assert len(parts((0, 500), (500, 1000))[-2].audio.soundtrack.spans) == 1


def test_range_that_is_shown_twice_is_one_task() -> None:
    tasks = parts((0, 400), (0, 400))
    assert frames_of(tasks) == [(0, 200), (200, 400)]
    keys = [part.key for part in tasks[-1].assemble.video]
    assert keys == keys[:2] * 2


def test_silent_source_has_no_sound_task() -> None:
    info = pb.SourceInfo()
    info.CopyFrom(LONG)
    info.ClearField("audio")
    plan = plan_of((0, 1000), info=info)
    tasks = work_in_parts(ORDER, info, plan, CHOICE, TOOLS, chunk_seconds=8)
    assert {task.kind for task in tasks} == {"VIDEO", "ASSEMBLE"}
    assert task_pb2.Task.FromString(tasks[-1].message).assemble.audio_key == b""


def test_parts_of_another_generation_have_other_names() -> None:
    first, second = keys_of((0, 1000)), keys_of((0, 1000), generation=1)
    assert set(first).isdisjoint(second)


def test_pictures_go_to_the_lane_of_their_family_and_the_rest_beside_them() -> None:
    choice = choose_family(pb.ENCODER_PREFERENCE_AUTO, gpu_live=True)
    tasks = work_in_parts(ORDER, LONG, plan_of((0, 1000)), choice, TOOLS, chunk_seconds=8)
    lanes = {task.kind: task.lane for task in tasks}
    assert lanes == {"VIDEO": Lane.GPU, "AUDIO": Lane.MUX, "ASSEMBLE": Lane.MUX}
    families = {task_pb2.Task.FromString(task.message).video.chunk.family for task in tasks[:-2]}
    assert families == {NVENC}


places = st.lists(st.integers(0, 15_000), min_size=2, max_size=10, unique=True).map(sorted)


@given(places)
def test_chunks_tile_every_segment_and_add_up_to_the_plan(places: list[int]) -> None:
    spans = list(itertools.pairwise(places))[::2]
    tasks = parts(*spans)
    covered = [frame for start, end in frames_of(tasks) for frame in range(start, end)]
    assert covered == [frame for start, end in spans for frame in range(start, end)]
    plan = plan_of(*spans)
    assert sum(part.frame_count for part in tasks[-1].assemble.video) == plan.frame_count


@given(places, st.randoms())
def test_reordering_segments_changes_no_chunk(places: list[int], random: Random) -> None:
    spans = list(itertools.pairwise(places))[::2]
    # Neighbours in the source would become one range.
    spans = [(start, end - 1) for start, end in spans if end - start > 1]
    if not spans:
        return
    shuffled = random.sample(spans, len(spans))
    assert sorted(keys_of(*spans)) == sorted(keys_of(*shuffled))


@given(st.integers(1000, 14_000), st.integers(-400, 400))
def test_moving_one_border_changes_only_the_chunks_at_it(border: int, by: int) -> None:
    before = keys_of((100, border), (14_100, 14_900))
    after = keys_of((100, border + by), (14_100, 14_900))
    # As far as the border moves, and the pieces on both sides of it.
    allowed = 2 + abs(by) // 150
    assert len(set(after) - set(before)) <= allowed
    assert keys_of((14_100, 14_900))[0] in set(before) & set(after)


def test_pictures_are_the_same_with_any_sound_and_the_sound_knows_all_of_it() -> None:
    info = pb.SourceInfo()
    info.CopyFrom(LONG)
    info.audio_streams.append(info.audio)
    plan = plan_export(info, (), pb.ExportSettings(loudness_lufs=-16))
    tasks = [
        task_pb2.Task.FromString(task.message)
        for task in work_in_parts(ORDER, info, plan, CHOICE, TOOLS, 8)
    ]
    other = pb.SourceInfo()
    other.CopyFrom(info)
    other.audio.index = 7
    keys, keys_beside_other = (
        [task.part_key for task in work_in_parts(ORDER, each, plan, CHOICE, TOOLS, 8)]
        for each in (info, other)
    )
    assert keys[:-2] == keys_beside_other[:-2]
    assert keys[-2] != keys_beside_other[-2]
    track = tasks[-2].audio.soundtrack
    assert (track.loudness_lufs, track.info.audio) == (-16, LONG.audio)
    assert tasks[-1].assemble.plan.loudness_lufs == -16
    quiet = plan_export(info, (), pb.ExportSettings())
    sound = work_in_parts(ORDER, info, quiet, CHOICE, TOOLS, 8)[-2]
    assert not task_pb2.Task.FromString(sound.message).audio.soundtrack.HasField("loudness_lufs")
