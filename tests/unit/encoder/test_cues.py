"""Cues go where the output shows them."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.frames import FrameRange
from services.encoder.commands.cues import (
    MOST_CUES,
    Cue,
    Cues,
    burnt,
    milliseconds_to_read,
    plain,
    shown,
    subrip,
)
from services.encoder.commands.filters import Timeline
from services.encoder.errors import InvalidSubtitles

# The source begins at 1.5 s of its own clock.
TIMELINE = Timeline(Fraction(25), Fraction(3, 2))


def cue(start: float, end: float, text: str = "a") -> Cue:
    """A cue of a source that begins at 0 of its clock's 1.5 s."""
    return Cue(Fraction(start) + Fraction(3, 2), Fraction(end) + Fraction(3, 2), text)


def times(cues: list[Cue]) -> list[tuple[float, float, str]]:
    return [(float(each.start), float(each.end), each.text) for each in cues]


def test_cue_is_clipped_to_each_segment_that_shows_it() -> None:
    cues = [cue(1, 3), cue(4, 5, "b")]
    ranges = [FrameRange(50, 125), FrameRange(0, 50), FrameRange(50, 75)]
    assert times(shown(cues, ranges, TIMELINE)) == [
        (0, 1, "a"),
        (2, 3, "b"),
        (4, 5, "a"),
        (5, 6, "a"),
    ]
    assert shown(cues, [FrameRange(75, 100), FrameRange(125, 150)], TIMELINE) == []


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 80)), max_size=8),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), min_size=1, max_size=6),
)
def test_moment_of_the_output_has_what_its_moment_of_the_source_has(
    spans: list[tuple[int, int]], ranges: list[tuple[int, int]]
) -> None:
    cues = [cue(a / 64, (a + b) / 64, f"t{n}") for n, (a, b) in enumerate(spans)]
    wanted = [FrameRange(start, start + length) for start, length in ranges]
    found = shown(cues, wanted, TIMELINE)
    place = 0
    for frames in wanted:
        for frame in range(frames.start, frames.end):
            there, then = TIMELINE.time(frame), place / TIMELINE.rate
            due = {each.text for each in cues if each.start <= there < each.end}
            assert {each.text for each in found if each.start <= then < each.end} == due
            place += 1


def test_output_shows_no_endless_number_of_cues() -> None:
    many = [cue(0, 1, str(number)) for number in range(MOST_CUES // 10)]
    assert len(shown(many, [FrameRange(0, 25)] * 10, TIMELINE)) == MOST_CUES
    with pytest.raises(InvalidSubtitles, match="more than 20000"):
        shown(many, [FrameRange(0, 25)] * 11, TIMELINE)


def test_texts_at_the_same_time_are_one_in_their_order() -> None:
    cues = [Cue(Fraction(0), Fraction(2), "a"), Cue(Fraction(1), Fraction(3), r"b\Nc")]
    assert subrip(cues) == (
        "1\n00:00:00,000 --> 00:00:01,000\na\n\n"
        "2\n00:00:01,000 --> 00:00:02,000\na\nb\nc\n\n"
        "3\n00:00:02,000 --> 00:00:03,000\nb\nc\n"
    )


def test_same_text_over_a_cut_is_one() -> None:
    cues = [Cue(Fraction(0), Fraction(1), "a"), Cue(Fraction(1), Fraction(2), "a")]
    assert subrip(cues) == "1\n00:00:00,000 --> 00:00:02,000\na\n"


def test_times_of_text_are_those_of_days() -> None:
    late = Fraction(25 * 3600 + 61) + Fraction(1, 3000)
    assert "25:01:01,000 --> 25:01:02,000" in subrip([Cue(late, late + 1, "a")])


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (r"{\i1}One{\i0} two\Nthree\hfour", "<i>One</i> two\nthree four"),
        (r"{\i1}One{\b1}two{\i0}three", "<i>One<b>two</b></i><b>three</b>"),
        (r"{\i1}One{\r} two", "<i>One</i> two"),
        (r"{\b700\u1}x", "<b><u>x</u></b>"),
        (r"{\an8\pos(1,2)\fs40\c&H00FF00&}top", "top"),
        (r"{\p1}m 0 0 l 1 1{\p0}", ""),
        ("<script>", "‹script›"),
        (r"a\N\Nb", "a\nb"),
        (r"{\i1}{\i0}", ""),
        ("-->", "--›"),
    ],
)
def test_text_is_plain_but_for_its_letters(text: str, written: str) -> None:
    assert plain(text) == written


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), Fraction(50), Fraction(60)])
def test_frame_has_the_letters_of_the_moment_in_which_it_begins(rate: Fraction) -> None:
    timeline = Timeline(rate, Fraction(0))
    cues = [Cue(n / rate, (n + 1) / rate, f"t{n}") for n in range(200)]
    cues.append(Cue(Fraction(1, 7), Fraction(22, 7), "odd"))
    text = burnt(Cues(tuple(cues)), [FrameRange(10, 190)], timeline, 640, 360)
    events = re.findall(r"^Dialogue: 0,0:00:(.*?),0:00:(.*?),Default,,0,0,0,,(.*)$", text, re.M)
    for place in range(180):
        # As libass counts it: whole milliseconds, rounded down.
        now = int(place * 1000 / rate)
        drawn = {
            words
            for start, end, said in events
            for words in said.split(r"{\r}\N")
            if float(start) * 1000 <= now + 1e-6 and now + 1e-6 < float(end) * 1000 - 1e-6
        }
        frame = place + 10
        due = {f"t{frame}"} | (
            {"odd"} if Fraction(1, 7) <= frame / rate < Fraction(22, 7) else set()
        )
        assert drawn == due, place


def test_looks_are_those_of_the_source_where_it_has_any() -> None:
    looks = "[Script Info]\nPlayResX: 1\n[V4+ Styles]\nStyle: Sign"
    one = Cue(Fraction(0), Fraction(1), "a", layer=3, style="Sign")
    own = burnt(Cues((one,), looks), [FrameRange(0, 25)], Timeline(Fraction(25), Fraction(0)), 9, 9)
    assert own.startswith(looks)
    assert "Dialogue: 3,0:00:00.00,0:00:01.00,Sign,,0,0,0,,a\n" in own
    plain_looks = burnt(Cues(), [FrameRange(0, 25)], TIMELINE, 1280, 720)
    assert "PlayResX: 1280\nPlayResY: 720\n" in plain_looks
    assert "Style: Default,Noto Sans,40.00," in plain_looks


def test_text_stays_where_it_is_wherever_a_chunk_begins() -> None:
    timeline = Timeline(Fraction(25), Fraction(0))
    cues = [(0, 4, "low"), (1, 3, r"{\an8}top"), (2, 6, "next")]
    all_cues = Cues(tuple(Cue(Fraction(a), Fraction(b), text) for a, b, text in cues))

    def events(start: int, end: int) -> list[str]:
        text = burnt(all_cues, [FrameRange(start, end)], timeline, 640, 360)
        return re.findall(r",0,0,0,,(.*)", text)

    assert events(0, 150) == ["low", r"low{\r}\Nnext", "next", r"{\an8}top"]
    assert events(110, 150) == ["next"]


def test_spans_that_are_near_each_other_are_read_as_one() -> None:
    spans = [(100, 110), (0, 10), (39, 41), (20, 30), (71.0005, 72)]
    given = [(Fraction(start), Fraction(end)) for start, end in spans]
    assert milliseconds_to_read(given) == [[0, 41_000], [71_000, 110_000]]
    assert milliseconds_to_read([]) == []
