"""A record that says something else than the file is found."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from conformance.evidence import Evidence
from conformance.record import loudness_problems, record_problems
from services.common.planner import duration_of
from tests.media.frame_codes import Clip
from tests.media.read_back import Shown
from tests.media.recipes.recipe import Recipe
from videoexport.v1 import export_pb2 as pb

CASE = Recipe(name="case", topic="topic", source=Clip(frames=100, rotation=90))
TIMES = tuple(Fraction(place, 25) for place in range(50))
STORED = "h264 yuv420p bt709/bt709/bt709/tv"
SEEN = Evidence(Shown((), TIMES, Fraction(25), (256, 144), True), (), 2.0, {}, STORED)
RANGES = [(10, 60)]


def record(**changes: Any) -> pb.Verification:
    right: dict[str, Any] = {
        "planned_frame_count": 50,
        "frame_count": 50,
        "video_duration": duration_of(Fraction(2)),
        "audio_duration": duration_of(Fraction(2)),
        "largest_av_offset": duration_of(Fraction(1, 1000)),
        "rotation": 90,
        "video_codec": "h264",
        "pixel_format": "yuv420p",
        "color_primaries": "bt709",
        "color_transfer": "bt709",
        "color_space": "bt709",
        "color_range": "tv",
    }
    return pb.Verification(**(right | changes))


def test_right_record_passes() -> None:
    assert record_problems(CASE, record(), SEEN, RANGES, 0.001) == []
    mute = record(audio_duration=None, largest_av_offset=None)
    assert record_problems(CASE, mute, replace(SEEN, seconds_of_sound=None), RANGES) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"planned_frame_count": 49}, "planned frames: 49, not 50"),
        ({"frame_count": 51}, "frames: 51, not 50"),
        ({"rotation": 0}, "degrees turned: 0, not 90"),
        ({"video_codec": "hevc"}, "stored as"),
        ({"pixel_format": "yuv420p10le"}, "stored as"),
        ({"color_primaries": ""}, "stored as"),
        ({"color_transfer": "smpte2084"}, "stored as"),
        ({"color_space": "smpte170m"}, "stored as"),
        ({"color_range": "pc"}, "stored as"),
        ({"video_duration": duration_of(Fraction(201, 100))}, "pictures are +10.0 ms longer"),
        ({"audio_duration": duration_of(Fraction(199, 100))}, "sound are -10.0 ms longer"),
        ({"audio_duration": None}, "whether there is sound"),
        ({"largest_av_offset": None}, "an A/V offset of one alone"),
        ({"largest_av_offset": duration_of(Fraction(6, 1000))}, "A/V offset of 6.0 ms"),
    ],
)
def test_record_that_is_wrong_is_found(changes: dict[str, Any], words: str) -> None:
    problems = record_problems(CASE, record(**changes), SEEN, RANGES, 0.001)
    assert any(words in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("told", "found", "words"),
    [
        (pb.Loudness(delivered_lufs=-16, true_peak_dbtp=-2), (-16.1, -2.2), None),
        (pb.Loudness(delivered_lufs=-16, true_peak_dbtp=-2), (-17.0, -2.2), "LUFS of -17.0"),
        (pb.Loudness(delivered_lufs=-16, true_peak_dbtp=-2), (-16.0, -0.2), "dBTP of -0.2"),
        (pb.Loudness(delivered_lufs=-16), None, "not both"),
        (None, (-16.0, -2.0), "not both"),
        (None, None, None),
    ],
)
def test_loudness_of_the_record_is_the_one_heard(
    told: pb.Loudness | None, found: tuple[float, float] | None, words: str | None
) -> None:
    problems = loudness_problems(told, found)
    assert (words is None) == (not problems)
    assert words is None or words in problems[0]
