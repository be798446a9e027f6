"""An output that differs from its plan is never delivered."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from services.encoder.errors import OutputMismatch
from services.encoder.inspection.output_facts import OutputFacts, check_output, verification_of
from videoexport.v1 import export_pb2 as pb

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


def test_output_as_planned_passes() -> None:
    check_output(FACTS, PLAN)


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
    ],
)
def test_difference_is_refused_and_named(difference: dict[str, Any], words: str) -> None:
    with pytest.raises(OutputMismatch, match=words):
        check_output(replace(FACTS, **difference), PLAN)


def test_sound_that_was_not_planned_is_refused() -> None:
    silent = pb.Plan()
    silent.CopyFrom(PLAN)
    silent.has_audio = False
    with pytest.raises(OutputMismatch, match="not planned"):
        check_output(FACTS, silent)


@pytest.mark.parametrize("audio", [None, Fraction(480_480, 48_000), Fraction(1, 3)])
def test_facts_survive_the_way_from_the_child(audio: Fraction | None) -> None:
    facts = replace(FACTS, audio_duration=audio)
    assert OutputFacts.from_json(facts.to_json()) == facts


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
HEARD = replace(FACTS, frame_count=0, duration=Fraction(0), width=0, height=0)


def test_sound_alone_has_no_pictures() -> None:
    check_output(HEARD, SOUND)
    with pytest.raises(OutputMismatch, match="300 frames instead of 0"):
        check_output(FACTS, SOUND)
    with pytest.raises(OutputMismatch, match=r"sound that is -10\.0 ms longer than planned"):
        check_output(replace(HEARD, audio_duration=Fraction(10)), SOUND)
    with pytest.raises(OutputMismatch, match="no sound"):
        check_output(replace(HEARD, audio_duration=None), SOUND)
