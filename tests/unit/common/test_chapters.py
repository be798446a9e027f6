"""Chapters fall where the segments show them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.chapters import MAX_CHAPTERS, Place, filled, retimed
from services.common.examined import knows_enough
from services.common.planner import duration_of, plan_export
from services.common.sound import with_sound_of
from videoexport.v1 import export_pb2 as pb

Range = tuple[int, int]
THREE: list[Range] = [(0, 100), (100, 200), (200, 300)]


@pytest.mark.parametrize(
    ("segments", "places"),
    [
        pytest.param([(0, 300)], [(0, 0, 100), (1, 100, 200), (2, 200, 300)], id="all"),
        pytest.param([(150, 160)], [(1, 0, 10)], id="within one"),
        pytest.param([(90, 210)], [(0, 0, 10), (1, 10, 110), (2, 110, 120)], id="over borders"),
        pytest.param([(200, 300), (0, 10)], [(2, 0, 100), (0, 100, 110)], id="other order"),
        pytest.param([(10, 20), (50, 60)], [(0, 0, 20)], id="goes on over a cut"),
        pytest.param([(10, 20), (10, 20)], [(0, 0, 10), (0, 10, 20)], id="begins again"),
        pytest.param([(50, 60), (10, 20)], [(0, 0, 10), (0, 10, 20)], id="jumps back"),
        pytest.param([(95, 105), (150, 160)], [(0, 0, 5), (1, 5, 20)], id="the later one goes on"),
    ],
)
def test_chapters_are_where_segments_show_them(
    segments: list[Range], places: list[tuple[int, int, int]]
) -> None:
    assert retimed(THREE, segments) == [Place(*place) for place in places]


def test_chapter_ends_where_the_next_begins() -> None:
    assert retimed([(0, 300), (100, 200)], [(0, 300)]) == [Place(0, 0, 100), Place(1, 100, 200)]
    assert retimed([], [(0, 300)]) == []


@st.composite
def cut_sources(draw: st.DrawFn) -> tuple[list[Range], list[Range]]:
    borders = sorted(draw(st.sets(st.integers(0, 400), min_size=2, max_size=9)))
    chapters = [(a, b) for a, b in pairwise(borders) if draw(st.integers(0, 3))]
    starts = draw(st.lists(st.integers(0, 399), min_size=1, max_size=8))
    return chapters, [(start, start + draw(st.integers(1, 60))) for start in starts]


@given(cut_sources())
def test_frame_of_the_output_is_in_the_chapter_of_its_frame_of_the_source(
    case: tuple[list[Range], list[Range]],
) -> None:
    chapters, segments = case
    wanted = [
        next((index for index, (start, end) in enumerate(chapters) if start <= frame < end), None)
        for first, last in segments
        for frame in range(first, last)
    ]
    places = retimed(chapters, segments)
    found: list[int | None] = [None] * len(wanted)
    for place in places:
        assert found[place.start : place.end] == [None] * (place.end - place.start)
        found[place.start : place.end] = [place.index] * (place.end - place.start)
    assert found == wanted
    gaps = [
        frame
        for start, end in filled([(p.start, p.end) for p in places])
        for frame in range(start, end)
    ]
    behind = max((place.end for place in places), default=0)
    assert gaps == [frame for frame, index in enumerate(found[:behind]) if index is None]


def test_chapters_of_an_output_have_a_limit() -> None:
    many = [(frame, frame + 1) for frame in range(10)]
    assert len(retimed(many, [(0, 10)] * 200)) == MAX_CHAPTERS


def source(rate: int = 25) -> pb.SourceInfo:
    info = pb.SourceInfo(
        video=pb.VideoStream(
            frame_rate=pb.Rational(numerator=rate, denominator=1),
            frame_count=300,
            width=1280,
            height=720,
        ),
        audio=pb.AudioStream(index=1, language="fra"),
        audio_streams=[
            pb.AudioStream(index=1, language="fra"),
            pb.AudioStream(index=2, language="deu"),
        ],
        metadata=pb.SourceMetadata(
            tags=[pb.MetadataTag(key="title", value="Talk")],
            location_and_device=[pb.MetadataTag(key="make", value="Maker")],
            video_language="ita",
        ),
    )
    for start, end in ((0, 4), (4, 12)):
        info.chapters.add(start_time=duration_of(start), end_time=duration_of(end), title="A")
    return info


def test_plan_says_what_the_output_will_say_of_itself() -> None:
    segment = pb.Segment(start_time=duration_of(3), end_time=duration_of(5))
    plan = plan_export(source(), [segment], pb.ExportSettings(audio_stream=2))
    told = plan.metadata
    assert [(tag.key, tag.value) for tag in told.tags] == [("title", "Talk")]
    assert (told.video_language, told.audio_language) == ("ita", "deu")
    assert [(each.start_frame, each.end_frame, each.title) for each in told.chapters] == [
        (0, 25, "A"),
        (25, 50, "A"),
    ]
    assert told.chapters[1].start_time == duration_of(1)
    assert told.chapters[1].end_time == duration_of(2)
    assert not told.has_location_and_device


def test_chapters_are_counted_on_the_grid_of_the_output() -> None:
    settings = pb.ExportSettings(frame_rate=pb.Rational(numerator=10, denominator=1))
    chapters = plan_export(source(), (), settings).metadata.chapters
    assert [(each.start_frame, each.end_frame) for each in chapters] == [(0, 40), (40, 120)]


def test_place_and_device_are_told_on_request_alone() -> None:
    settings = pb.ExportSettings(keep_location_and_device=True)
    told = plan_export(source(), (), settings).metadata
    assert [tag.key for tag in told.tags] == ["title", "make"]
    assert told.has_location_and_device
    before = source()
    before.ClearField("metadata")
    assert knows_enough(before, pb.ExportSettings())
    assert not knows_enough(before, settings)
    assert knows_enough(source(), settings)


def test_tasks_are_given_the_source_without_what_the_plan_says_of_it() -> None:
    info = source()
    bare = with_sound_of(info, plan_export(info, (), pb.ExportSettings()))
    assert not bare.chapters
    assert not bare.HasField("metadata")
