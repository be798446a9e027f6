"""Three segments that fit into any source."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local.demo import (
    LONGEST_SEGMENT,
    choose_long_segments,
    choose_segments,
    parser,
    with_cut_moved,
)


@given(st.timedeltas(timedelta(milliseconds=300), timedelta(hours=10)))
def test_segments_are_ordered_and_inside_the_source(duration: timedelta) -> None:
    segments = choose_segments(duration)
    assert len(segments) == 3
    edges = [edge for segment in segments for edge in segment]
    assert edges == sorted(edges)
    assert timedelta(0) <= edges[0]
    assert edges[-1] <= duration
    assert all(timedelta(0) < end - start <= LONGEST_SEGMENT for start, end in segments)
    assert all(edge % timedelta(milliseconds=1) == timedelta(0) for edge in edges)


def test_missing_source_is_told_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["--source", "nosuch.mp4"])
    assert caught.value.code == 2
    assert "there is no file nosuch.mp4" in capsys.readouterr().err


@given(st.timedeltas(timedelta(milliseconds=300), timedelta(hours=10)))
def test_edit_moves_one_cut_and_stays_inside_the_source(duration: timedelta) -> None:
    segments = choose_long_segments(duration)
    moved = with_cut_moved(segments)
    edges = [edge for segment in segments for edge in segment]
    assert edges == sorted(edges)
    assert timedelta(0) <= edges[0]
    assert edges[-1] <= duration
    assert sum((end - start for start, end in segments), timedelta(0)) > duration * 0.85
    assert [moved[0], moved[2]] == [segments[0], segments[2]]
    (start, end), (new_start, new_end) = segments[1], moved[1]
    assert start == new_start < new_end < end
