"""Names of parts: equal where the parts are equal, and different where anything differs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration

from services.common import content_key
from services.common.content_key import Toolchain, VideoKeys, audio_key, output_key, video_key
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

TOOLS = Toolchain("build", 2)
INFO = pb.SourceInfo(
    container="mov",
    etag="etag",
    first_frame_time=Duration(seconds=1),
    video=pb.VideoStream(
        index=0,
        codec="h264",
        width=1920,
        height=1080,
        frame_rate=pb.Rational(numerator=25, denominator=1),
        frame_count=1000,
        pixel_format="yuv420p",
        keyframes=[0, 50],
    ),
    audio=pb.AudioStream(index=1, codec="aac", sample_rate=48_000, channels=2),
)


def source() -> task_pb2.TaskSource:
    return task_pb2.TaskSource(source=pb.Source(video_id="vid"), etag="etag", size_bytes=9)


def chunk() -> task_pb2.VideoChunk:
    return task_pb2.VideoChunk(
        info=INFO,
        frame_rate=pb.Rational(numerator=25, denominator=1),
        start_frame=0,
        end_frame=200,
        width=1280,
        height=720,
        quality=pb.QUALITY_MEDIUM,
        family=pb.ENCODER_FAMILY_CPU,
    )


def track() -> task_pb2.Soundtrack:
    spans = [task_pb2.FrameSpan(start_frame=a, end_frame=b) for a, b in ((0, 200), (300, 400))]
    rate = pb.Rational(numerator=25, denominator=1)
    return task_pb2.Soundtrack(info=INFO, frame_rate=rate, spans=spans)


# One change each of everything that may change a bit of the pictures.
CHUNK_CHANGES: dict[str, Callable[[task_pb2.VideoChunk], object]] = {
    "info.container": lambda it: setattr(it.info, "container", "mkv"),
    "info.first_frame_time": lambda it: setattr(it.info.first_frame_time, "nanos", 1),
    "info.video": lambda it: setattr(it.info.video, "rotation", 90),
    "frame_rate": lambda it: setattr(it.frame_rate, "numerator", 50),
    "start_frame": lambda it: setattr(it, "start_frame", 1),
    "end_frame": lambda it: setattr(it, "end_frame", 201),
    "width": lambda it: setattr(it, "width", 1920),
    "height": lambda it: setattr(it, "height", 1080),
    "quality": lambda it: setattr(it, "quality", pb.QUALITY_HIGH),
    "family": lambda it: setattr(it, "family", pb.ENCODER_FAMILY_NVENC),
    "generation": lambda it: setattr(it, "generation", 1),
    "fit": lambda it: setattr(it, "fit", pb.FIT_CROP),
    "video_codec": lambda it: setattr(it, "video_codec", pb.VIDEO_CODEC_AV1),
    "dynamic_range": lambda it: setattr(it, "dynamic_range", pb.DYNAMIC_RANGE_KEEP),
    "burnt_subtitles": lambda it: setattr(it, "burnt_subtitles", 0),
    "copied": lambda it: setattr(it, "copied", True),
    "watermark": lambda it: setattr(it.watermark, "etag", "mark"),
    "tolerant": lambda it: setattr(it, "tolerant", True),
}


@pytest.mark.parametrize("name", CHUNK_CHANGES)
def test_every_field_of_a_chunk_is_in_its_key(name: str) -> None:
    changed = chunk()
    CHUNK_CHANGES[name](changed)
    assert video_key("anna", source(), changed, TOOLS) != video_key(
        "anna", source(), chunk(), TOOLS
    )


def test_no_field_of_a_chunk_is_forgotten_above() -> None:
    named = {name.split(".")[0] for name in CHUNK_CHANGES}
    assert named == set(task_pb2.VideoChunk.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(
    ("user", "etag", "tools"),
    [
        ("ben", "etag", TOOLS),
        ("anna", "other", TOOLS),
        ("anna", "etag", Toolchain("other", 2)),
        ("anna", "etag", Toolchain("build", 3)),
    ],
    ids=["owner", "version", "build", "threads"],
)
def test_owner_version_and_toolchain_are_in_every_key(
    user: str, etag: str, tools: Toolchain
) -> None:
    other = source()
    other.etag = etag
    assert video_key(user, other, chunk(), tools) != video_key("anna", source(), chunk(), TOOLS)
    same_sound = tools.build == TOOLS.build and user == "anna" and etag == "etag"
    found = audio_key(user, other, track(), tools)
    # Sound is encoded with one thread however many the pictures have.
    assert (found == audio_key("anna", source(), track(), TOOLS)) == same_sound


def test_recipe_is_in_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (
        video_key("anna", source(), chunk(), TOOLS),
        audio_key("anna", source(), track(), TOOLS),
    )
    monkeypatch.setattr(content_key, "RECIPE_VERSION", 10**6)
    after = video_key("anna", source(), chunk(), TOOLS), audio_key("anna", source(), track(), TOOLS)
    assert not set(before) & set(after)


def test_where_reading_begins_is_not_in_a_key() -> None:
    changed = chunk()
    del changed.info.video.keyframes[:]
    assert video_key("anna", source(), changed, TOOLS) == video_key(
        "anna", source(), chunk(), TOOLS
    )


def test_keys_of_many_chunks_are_those_of_each() -> None:
    keys = VideoKeys("anna", source(), chunk(), TOOLS)
    other = chunk()
    other.start_frame, other.end_frame = 200, 333
    assert keys.of(200, 333) == video_key("anna", source(), other, TOOLS)
    assert len(keys.of(0, 1)) == 32
    # No two ranges read as one text.
    assert keys.of(1, 23) != keys.of(12, 3)


def test_order_and_places_of_the_sound_are_in_its_key() -> None:
    turned, moved, anew, other, levelled, opus = (track() for _ in range(6))
    turned.spans.reverse()
    moved.spans[0].end_frame = 199
    anew.generation = 1
    other.info.audio.index = 2
    levelled.loudness_lufs = -16
    opus.codec = task_pb2.AUDIO_CODEC_OPUS
    changed = (track(), turned, moved, anew, other, levelled, opus)
    assert len({audio_key("anna", source(), each, TOOLS) for each in changed}) == 7


# Finished exports

PLAN = pb.Plan(
    segments=[pb.PlannedSegment(start_frame=0, end_frame=100)],
    frame_rate=pb.Rational(numerator=25, denominator=1),
    frame_count=100,
    width=1280,
    height=720,
    quality=pb.QUALITY_MEDIUM,
    has_audio=True,
)


def finished(
    user: str = "anna",
    family: pb.EncoderFamily.ValueType = pb.ENCODER_FAMILY_CPU,
    build: str = "build",
    **changes: object,
) -> bytes:
    plan = pb.Plan()
    plan.CopyFrom(PLAN)
    for name, value in changes.items():
        setattr(plan, name, value)
    return output_key(user, source(), INFO, plan, family, build)


def test_equal_exports_have_equal_keys_whatever_was_estimated() -> None:
    assert finished() == finished(estimated_size_bytes=5, reusable_frame_count=7, chunk_count=3)


def test_contiguous_segments_make_the_same_export_as_one() -> None:
    split = pb.Plan()
    split.CopyFrom(PLAN)
    del split.segments[:]
    split.segments.add(start_frame=0, end_frame=40)
    split.segments.add(start_frame=40, end_frame=100)
    family = pb.ENCODER_FAMILY_CPU
    assert output_key("anna", source(), INFO, split, family, "build") == finished()


def test_what_an_owner_asks_for_and_what_it_is_made_with_are_in_the_key() -> None:
    keys = {
        finished(),
        finished(user="ben"),
        finished(family=pb.ENCODER_FAMILY_NVENC),
        finished(build="other"),
        finished(width=1920),
        finished(quality=pb.QUALITY_LOW),
        finished(has_audio=False),
        finished(audio_stream=1),
        finished(audio_stream=2),
        finished(loudness_lufs=-16.0),
        finished(loudness_lufs=-16.5),
    }
    assert len(keys) == 11
