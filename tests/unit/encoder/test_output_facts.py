"""An output that differs from its plan is never delivered."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from services.encoder.commands.colour import Tags
from services.encoder.commands.look import Look, look_of, look_of_joined
from services.encoder.deadline import Deadline
from services.encoder.errors import FramesMissing, OutputMismatch, SoundMissing
from services.encoder.inspection.output_facts import OutputFacts, check_output, verification_of
from services.encoder.tasks.ffmpeg_runs import Order
from services.encoder.tasks.parts import video_order
from services.encoder.tasks.whole import order_of
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

PLAN = pb.Plan(
    frame_rate=pb.Rational(numerator=30000, denominator=1001),
    frame_count=300,
    width=1280,
    height=720,
    has_audio=True,
)
FACTS = OutputFacts(
    size_bytes=1000,
    frame_count=300,
    duration=Fraction(1001, 100),
    audio_duration=Fraction(480_480, 48_000),
    width=1280,
    height=720,
    index_in_front=True,
    av_offset=Fraction(1, 4000),
    codec="h264",
    pixel_format="yuv420p",
    color_primaries="bt470bg",
    color_transfer="smpte170m",
    color_space="smpte170m",
    color_range="tv",
)
LOOK = Look("h264", ("yuv420p",), Tags("bt470bg", "smpte170m", "smpte170m"))


def test_output_as_planned_passes() -> None:
    check_output(FACTS, PLAN, LOOK)


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        ({"frame_count": 299}, "299 frames instead of 300"),
        ({"duration": Fraction(10)}, r"10\.000 s instead of 10\.010 s"),
        ({"audio_duration": Fraction(10)}, r"sound that is -10\.0 ms longer"),
        ({"audio_duration": None}, "no sound"),
        ({"width": 1279}, "1279 × 720 pixels instead of 1280 × 720"),
        ({"index_in_front": False}, "index at the end"),
        ({"av_offset": Fraction(51, 10_000)}, r"sound that is 5\.1 ms off its pictures"),
        ({"codec": "hevc"}, "pictures in hevc instead of h264"),
        ({"codec": ""}, "pictures in no codec"),
        ({"pixel_format": "yuv420p10le"}, "pictures of yuv420p10le instead of yuv420p"),
        ({"color_primaries": "bt2020"}, "primaries bt2020 instead of bt470bg"),
        ({"color_transfer": "smpte2084"}, "transfer smpte2084 instead of smpte170m"),
        ({"color_space": ""}, "matrix unsaid instead of smpte170m"),
        ({"color_range": "pc"}, "range pc instead of tv"),
    ],
)
def test_difference_is_refused_and_named(difference: dict[str, Any], words: str) -> None:
    with pytest.raises(OutputMismatch, match=words):
        check_output(replace(FACTS, **difference), PLAN, LOOK)


def test_sound_that_was_not_planned_is_refused() -> None:
    silent = pb.Plan()
    silent.CopyFrom(PLAN)
    silent.has_audio = False
    with pytest.raises(OutputMismatch, match="not planned"):
        check_output(FACTS, silent, LOOK)


@pytest.mark.parametrize("audio", [None, Fraction(480_480, 48_000), Fraction(1, 3)])
def test_facts_survive_the_way_from_the_child(audio: Fraction | None) -> None:
    facts = replace(FACTS, audio_duration=audio)
    assert OutputFacts.from_json(facts.to_json()) == facts


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"audio_duration": FACTS.duration - 1}, SoundMissing),
        ({"audio_duration": FACTS.duration + 1}, OutputMismatch),
        # Where frames are missing as well, these come first.
        ({"audio_duration": FACTS.duration - 1, "frame_count": 299}, FramesMissing),
        ({"width": 2}, OutputMismatch),
    ],
)
def test_what_is_missing_is_told_from_what_is_wrong(
    changes: dict[str, Any], kind: type[OutputMismatch]
) -> None:
    with pytest.raises(OutputMismatch) as found:
        check_output(replace(FACTS, **changes), PLAN, None)
    assert found.type is kind


def test_verification_says_what_was_planned_and_what_was_found() -> None:
    plan = pb.Plan()
    plan.CopyFrom(PLAN)
    plan.rotation = 90
    found = verification_of(FACTS, plan)
    assert (found.planned_frame_count, found.frame_count) == (300, 300)
    assert found.video_duration.ToTimedelta() == found.audio_duration.ToTimedelta()
    assert found.video_duration.ToTimedelta().total_seconds() == 10.01
    assert found.largest_av_offset.ToMicroseconds() == 250
    assert (found.rotation, found.video_codec, found.pixel_format) == (90, "h264", "yuv420p")
    colours = (found.color_primaries, found.color_transfer, found.color_space, found.color_range)
    assert colours == ("bt470bg", "smpte170m", "smpte170m", "tv")


def test_verification_without_sound_says_nothing_of_it() -> None:
    found = verification_of(replace(FACTS, audio_duration=None, av_offset=None), PLAN)
    assert not found.HasField("audio_duration")
    assert not found.HasField("largest_av_offset")


SOUND = pb.Plan(frame_rate=PLAN.frame_rate, frame_count=300, has_audio=True, format=pb.FORMAT_M4A)
HEARD = OutputFacts(
    size_bytes=FACTS.size_bytes,
    frame_count=0,
    duration=Fraction(0),
    audio_duration=FACTS.audio_duration,
    width=0,
    height=0,
    index_in_front=True,
)


def test_verification_of_sound_alone_says_nothing_of_pictures() -> None:
    found = verification_of(HEARD, SOUND)
    assert found == pb.Verification(audio_duration=found.audio_duration)
    assert found.audio_duration.ToTimedelta().total_seconds() == 10.01


def test_sound_alone_has_no_pictures() -> None:
    check_output(HEARD, SOUND, None)
    with pytest.raises(OutputMismatch, match="300 frames instead of 0"):
        check_output(FACTS, SOUND, None)
    with pytest.raises(SoundMissing, match=r"sound that is -10\.0 ms longer than planned"):
        check_output(replace(HEARD, audio_duration=Fraction(10)), SOUND, None)
    with pytest.raises(OutputMismatch, match="no sound"):
        check_output(replace(HEARD, audio_duration=None), SOUND, None)


ORDERED = replace(
    FACTS,
    duration=Fraction(10),
    audio_duration=Fraction(10),
    codec="av1",
    color_primaries="bt709",
    color_transfer="bt709",
    color_space="bt709",
)


def ordered() -> list[Order]:
    """Return what a file, and a part of one, is ordered as: AV1 of a source in HD."""
    info = pb.SourceInfo(video=pb.VideoStream(height=1080, bit_depth=8, pixel_format="yuv420p"))
    rate, cpu = pb.Rational(numerator=30, denominator=1), pb.ENCODER_FAMILY_CPU
    size = {"width": 1280, "height": 720, "video_codec": pb.VIDEO_CODEC_AV1}
    plan = pb.Plan(frame_count=300, frame_rate=rate, has_audio=True, **size)
    chunk = task_pb2.VideoChunk(info=info, end_frame=300, frame_rate=rate, family=cpu, **size)
    deadline = Deadline.within(60, "encoding")
    return [
        order_of(task_pb2.WholeTask(info=info, plan=plan), cpu, deadline),
        video_order(task_pb2.VideoTask(chunk=chunk), deadline),
    ]


@pytest.mark.parametrize("part", [False, True])
def test_encoder_that_makes_something_else_than_ordered_is_found(*, part: bool) -> None:
    order = ordered()[part]
    facts = replace(ORDERED, audio_duration=None) if part else ORDERED
    order.check(facts)
    for difference in ({"codec": "h264"}, {"pixel_format": "yuv420p10le"}, {"color_range": "pc"}):
        with pytest.raises(OutputMismatch, match="instead of"):
            order.check(replace(facts, **difference))


HDR = pb.VideoStream(
    bit_depth=10,
    pixel_format="yuv420p10le",
    color_primaries="bt2020",
    color_transfer="smpte2084",
    color_space="bt2020nc",
    color_range="tv",
)
SDR = pb.VideoStream(pixel_format="yuv420p", color_primaries="bt709", height=720)
BT601 = Tags("smpte170m", "smpte170m", "smpte170m")
KEPT = pb.Plan(video_codec=pb.VIDEO_CODEC_HEVC, dynamic_range=pb.DYNAMIC_RANGE_KEEP)


def test_hdr_that_is_kept_looks_as_its_source_does() -> None:
    tags = Tags("bt2020", "smpte2084", "bt2020nc")
    wanted = Look("hevc", ("yuv420p10le",), tags, carried=True)
    assert look_of(HDR, KEPT) == wanted


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        (pb.VIDEO_CODEC_UNSPECIFIED, "h264"),
        (pb.VIDEO_CODEC_H264, "h264"),
        (pb.VIDEO_CODEC_AV1, "av1"),
        (pb.VIDEO_CODEC_VP9, "vp9"),
    ],
)
def test_hdr_that_is_not_kept_looks_as_sdr(codec: pb.VideoCodec.ValueType, name: str) -> None:
    wanted = Look(name, ("yuv420p",), Tags("bt709", "bt709", "bt709"))
    assert look_of(HDR, pb.Plan(video_codec=codec)) == wanted


def test_colours_that_change_within_a_source_are_as_it_says_there() -> None:
    look = look_of(SDR, pb.Plan())
    assert look.faults("h264", "yuv420p", BT601) == []
    assert look.faults("h264", "yuv420p", Tags("bt2020", "bt709", "bt709")) != []
    assert look.faults("h264", "yuv420p", Tags("bt709", "smpte2084", "bt709")) != []
    assert look.faults("h264", "yuv420p", Tags("bt709", "", "bt709")) != []
    assert look.faults("h264", "yuv420p", replace(BT601, range="pc")) != []
    # What is converted is BT.709, and what is kept is what was asked for.
    assert look_of(HDR, pb.Plan()).faults("h264", "yuv420p", BT601) != []
    assert look_of(HDR, KEPT).faults("hevc", "yuv420p10le", BT601) != []


def test_what_goes_beside_copied_pictures_looks_as_the_source_says() -> None:
    source = pb.VideoStream(pixel_format="yuvj420p", color_space="bt470bg", color_range="pc")
    look = look_of(source, pb.Plan(quality=pb.QUALITY_SOURCE))
    assert look.faults("h264", "yuvj420p", Tags("bt709", "bt709", "bt470bg", "pc")) == []
    assert len(look.faults("h264", "yuv420p", Tags("", "", "bt709"))) == 3


@pytest.mark.parametrize(
    ("plan", "formats"),
    [
        (pb.Plan(), {"yuv420p"}),
        (pb.Plan(quality=pb.QUALITY_SOURCE), {"yuv420p", "yuvj420p"}),
        (KEPT, {"yuv420p", "yuv420p10le"}),
    ],
)
def test_what_was_joined_is_in_the_codec_and_as_deep_as_planned(
    plan: pb.Plan, formats: set[str]
) -> None:
    look = look_of_joined(plan)
    assert set(look.pixel_formats) == formats
    assert look.faults(look.codec, min(formats), Tags("bt2020", "", "", "pc")) == []
    assert len(look.faults("vp9", "gray", Tags("", "", ""))) == 2
