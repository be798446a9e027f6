"""Every check passes on what it must pass on, and fails where that is broken."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from conformance.checks import Measured, measure, refusal_problems
from conformance.evidence import Evidence, Heard
from conformance.expected import clicks_of, cuts_of, frames_of
from services.common.damage import damage_warning, time_range
from services.common.errors import Reason
from tests.media.corner_marks import UPRIGHT, Corners, Stored
from tests.media.exporting import expected_numbers
from tests.media.frame_codes import CLICK_TONES, Clip
from tests.media.read_back import Seen, Shown
from tests.media.recipes.recipe import Recipe, Refused

CLIP = Clip(frames=100, clicks=0.2, colours=Stored(), tones=CLICK_TONES)
RANGES = [(10, 30), (50, 80)]
RATE = Fraction(25)
CASE = Recipe(name="case", topic="topic", source=CLIP, segments=RANGES, joins=2)
GOOD = Corners(UPRIGHT, (0.5, 0.3, 0.9, 0.2))


def evidence(case: Recipe = CASE) -> Evidence:
    """What is read back where all is right."""
    numbers = frames_of(CLIP, RATE, RANGES)
    frames = tuple(Seen(number, GOOD, (0, 0, 256, 144)) for number in numbers)
    times = tuple(place / RATE for place in range(len(numbers)))
    heard = tuple(Heard(click.time, click.tone) for click in clicks_of(CLIP, RATE, RANGES))
    return Evidence(Shown(frames, times, RATE, (256, 144), True), heard, 2.0, dict(case.levels))


def found(broken: Evidence, case: Recipe = CASE) -> Measured:
    return measure(case, broken, RANGES)


def with_shown(**changes: Any) -> Evidence:
    right = evidence()
    return replace(right, shown=replace(right.shown, **changes))


def with_frame(place: int, **changes: Any) -> Evidence:
    frames = list(evidence().shown.frames)
    frames[place] = replace(frames[place], **changes)
    return with_shown(frames=tuple(frames))


def with_clicks(*heard: Heard) -> Evidence:
    return replace(evidence(), clicks=heard)


def test_what_is_right_passes_with_its_figures() -> None:
    measured = found(evidence())
    assert measured.problems == ()
    assert measured.delta_e == 0.9
    assert measured.offset == pytest.approx(0)
    assert measured.joins == 2


HEARD = evidence().clicks
LATE = tuple(Heard(click.time + 0.006, click.tone) for click in HEARD)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (with_shown(size=(254, 144)), "254 × 144 pixels instead of 256 × 144"),
        (with_shown(square=False), "not square"),
        (with_shown(rate=Fraction(30000, 1001)), "29.970 frames a second instead of 25.000"),
        (with_shown(times=evidence().shown.times[:-1]), "49 frames instead of 50"),
        (
            with_shown(times=tuple(time + Fraction(1, 50) for time in evidence().shown.times)),
            "frame 0 is shown .20.0 ms from when it is due",
        ),
        (with_frame(3, number=14), "frame 3, shows 14 instead of 13"),
        (with_frame(20, number=None), "frame 20, shows nothing readable instead of 50"),
        (with_shown(frames=evidence().shown.frames[1:]), "50 of 50|49 of 50 frames are wrong"),
        (with_shown(frames=evidence().shown.frames[:-1]), "only 49 of 50 frames"),
        (with_frame(7, corners=replace(GOOD, orientation="turned 90°")), "are turned 90°"),
        (with_frame(7, corners=Corners("?", (40.0,) * 4)), "without their corners"),
        (with_frame(7, box=(3, 0, 253, 144)), r"at 3, 0 \(253 × 144\) instead of 0, 0"),
        (with_frame(7, corners=Corners(UPRIGHT, (0.1, 2.2, 0, 0))), "ΔE2000 2.2, more than 2"),
        (replace(evidence(), seconds_of_sound=None), "no sound"),
        (replace(evidence(), seconds_of_sound=1.9), "1.900 s of sound to 2.000 s of pictures"),
        (with_clicks(*LATE), "6.0 ms off its pictures"),
        (with_clicks(*HEARD[1:]), "no click at 0.200 s"),
        (with_clicks(*HEARD, Heard(0.4, 0)), "a click at 0.400 s that does not belong"),
        (
            with_clicks(*(replace(click, tone=(click.tone + 1) % 8) for click in HEARD)),
            "no click at 0.200 s",
        ),
        (with_clicks(*(click for click in HEARD if click.time < 0.7)), "at 1 of 2 places"),
        (with_clicks(), "at 0 of 2 places"),
    ],
)
def test_what_is_broken_is_found(broken: Evidence, words: str) -> None:
    problems = found(broken).problems
    assert any(re.search(words, problem) for problem in problems), problems


def test_sound_that_must_not_be_there_is_found() -> None:
    mute = replace(CASE, sound=False, clicks=False, joins=0)
    assert found(evidence(), mute).problems == ("sound where the source has none",)
    assert found(replace(evidence(), seconds_of_sound=None), mute).problems == ()


def test_clicks_near_a_cut_may_be_heard_in_part() -> None:
    cut = cuts_of(RATE, RANGES)[1]
    assert found(with_clicks(*HEARD, Heard(cut + 0.01, 0))).problems == ()


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ({500: (-20.0, -80.0), 900: (-23.0, -23.0)}, None),
        ({500: (-20.0, -80.0), 900: (-22.0, -23.0)}, "900 Hz is -2.0 dB left instead of -3.0"),
        ({500: (-20.0, -40.0), 900: (-23.0, -23.0)}, "500 Hz is -20.0 dB right"),
        ({500: (-80.0, -80.0), 900: (-20.0, -20.0)}, "500 Hz is -60.0 dB left"),
    ],
)
def test_levels_are_compared_with_each_other(
    levels: dict[int, tuple[float, float]], words: str | None
) -> None:
    case = replace(CASE, levels={500: (0.0, -99.0), 900: (-3.01, -3.01)})
    problems = found(replace(evidence(case), levels=levels), case).problems
    assert any(words in problem for problem in problems) if words else problems == ()


def test_frames_of_fields_need_only_be_in_order() -> None:
    case = replace(CASE, in_order=True)
    assert found(with_frame(3, number=14), case).problems == ()
    assert found(with_frame(3, number=99), case).problems == ("frames out of order",)
    assert found(with_frame(3, number=None), case).problems == ("1 of 50 frames cannot be read",)


def test_frames_may_be_damaged_where_that_is_told() -> None:
    case = replace(CASE, codes=[Reason.SOURCE_DAMAGED], least_right=0.98)
    broken = with_frame(3, number=None)
    # Frame 3 of the output is 13 of the source.
    told = damage_warning([time_range(13 / RATE, 14 / RATE)])
    assert measure(case, broken, RANGES, [told]).problems == ()
    elsewhere = damage_warning([time_range(14 / RATE, 30 / RATE)])
    assert "1 of 50 frames" in measure(case, broken, RANGES, [elsewhere]).problems[0]
    assert "is warned of nothing" in measure(case, broken, RANGES, []).problems[0]
    frames = tuple(replace(frame, number=None) for frame in evidence().shown.frames)
    all_told = damage_warning([time_range(Fraction(0), Fraction(10))])
    problems = measure(case, with_shown(frames=frames), RANGES, [all_told]).problems
    assert "50 of 50" in problems[0]


def test_owner_of_a_whole_source_must_not_be_warned() -> None:
    told = damage_warning([time_range(13 / RATE, 14 / RATE)])
    assert "is warned" in measure(CASE, evidence(), RANGES, [told]).problems[0]


def test_numbers_may_be_given_in_full() -> None:
    case = replace(CASE, numbers=[*range(100)])
    assert found(evidence(), case).problems == ()
    case = replace(CASE, numbers=[*range(50), *range(50)])
    assert "instead of 0" in found(evidence(), case).problems[0]


@pytest.mark.parametrize(
    ("reason", "sentence", "words"),
    [
        ("INVALID_SOURCE", "the video is damaged", None),
        ("ENCODER_FAILED", "the video is damaged", "ENCODER_FAILED .* instead of INVALID_SOURCE"),
        ("INVALID_SOURCE", "the video is incomplete", "says “the video is incomplete”"),
        ("SOME_REASON", "the video is damaged", "no reason of docs/errors.md"),
        ("INVALID_SOURCE", "damaged: /tmp/x.mp4", "no sentence for a person"),
    ],
)
def test_refusal_says_what_the_case_says(reason: str, sentence: str, words: str | None) -> None:
    case = replace(CASE, refused=Refused(reason="INVALID_SOURCE", words="damaged"))
    problems = refusal_problems(case, reason, sentence)
    if words is None:
        assert problems == []
    else:
        assert any(re.search(words, problem) for problem in problems), problems


def test_refusal_of_what_must_be_exported_is_found() -> None:
    problems = refusal_problems(CASE, "INVALID_SOURCE", "the video is damaged")
    assert problems == ["refused: INVALID_SOURCE: the video is damaged"]


def test_frames_are_those_of_the_rule() -> None:
    assert frames_of(CLIP, RATE, RANGES) == expected_numbers(CLIP, RANGES)
    steps = Clip(frames=4, durations=(1, 3))
    assert frames_of(steps, RATE, [(0, 8)]) == [0, 1, 1, 1, 4, 5, 5, 5]
    fast = Clip(frames=100, rate=Fraction(50))
    assert frames_of(fast, RATE, [(0, 4)]) == [0, 2, 4, 6]
    assert frames_of(CLIP, Fraction(50), [(0, 5)]) == [0, 0, 1, 1, 2]
    assert frames_of(CLIP, RATE, [(0, 2)], starts=Fraction(12, 25)) == [12, 13]


def test_clicks_are_where_their_frames_are() -> None:
    heard = [
        (round(click.time, 3), click.tone, click.segment) for click in clicks_of(CLIP, RATE, RANGES)
    ]
    # Those at 0.4 and 2.0 s are on a cut.
    assert heard[:4] == [(0.2, 3, 0), (0.4, 4, 0), (0.6, 5, 0), (1.0, 3, 1)]
    late = replace(CLIP, audio_delay=0.1)
    assert round(clicks_of(late, RATE, [(0, 20)])[0].time, 3) == 0.3
    assert clicks_of(replace(CLIP, clicks=None), RATE, RANGES) == []
    holed = clicks_of(CLIP, RATE, [(0, 30)], silent=((0.5, 0.9),))
    assert [round(click.time, 3) for click in holed] == [0.2, 0.4, 1.0]
