"""Where chunks are cut: by example, and by property."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.chunks import ChunkLengths, borders, chunks_of
from services.common.frames import FrameRange
from videoexport.v1 import export_pb2 as pb

RATE = Fraction(25)
LENGTHS = ChunkLengths.of(8, RATE)


def source(frames: int, keyframes: list[int], rate: Fraction = RATE) -> pb.SourceInfo:
    return pb.SourceInfo(
        video=pb.VideoStream(
            frame_rate=pb.Rational(numerator=rate.numerator, denominator=rate.denominator),
            frame_count=frames,
            keyframes=keyframes,
        )
    )


def test_lengths_are_those_of_the_design() -> None:
    assert ChunkLengths(target=200, least=150, most=250, edge=50) == LENGTHS


def test_borders_are_the_keyframes_nearest_to_the_target() -> None:
    assert borders(source(900, list(range(0, 900, 60))), RATE, LENGTHS) == [180, 360, 540, 720]


def test_borders_without_fitting_keyframes_lie_a_target_apart() -> None:
    # The keyframe at 500 is too far from 0 and too near to 400.
    assert borders(source(1000, [0, 500]), RATE, LENGTHS) == [200, 400, 600, 800]


def test_borders_return_to_keyframes_after_a_stretch_without() -> None:
    assert borders(source(1000, [0, 390, 600]), RATE, LENGTHS) == [200, 390, 600, 800]


def test_borders_are_on_the_grid_of_the_output() -> None:
    doubled = borders(source(450, list(range(0, 450, 30)), RATE / 2), RATE, LENGTHS)
    assert doubled == [180, 360, 540, 720]


def test_segment_is_cut_at_the_borders_inside() -> None:
    assert chunks_of(100, 700, [200, 400, 600, 800], LENGTHS) == [
        FrameRange(100, 200),
        FrameRange(200, 400),
        FrameRange(400, 600),
        FrameRange(600, 700),
    ]


def test_pieces_under_two_seconds_go_with_their_neighbours() -> None:
    assert chunks_of(160, 640, [200, 400, 600, 800], LENGTHS) == [
        FrameRange(160, 400),
        FrameRange(400, 640),
    ]


def test_segment_under_two_seconds_is_one_chunk_even_across_a_border() -> None:
    assert chunks_of(190, 210, [200, 400], LENGTHS) == [FrameRange(190, 210)]


def test_long_chunk_between_two_short_ends_is_cut_in_its_middle() -> None:
    assert chunks_of(160, 490, [200, 450], LENGTHS) == [FrameRange(160, 325), FrameRange(325, 490)]


@st.composite
def sources(draw: st.DrawFn) -> pb.SourceInfo:
    frames = draw(st.integers(1, 20_000))
    gaps = draw(st.lists(st.integers(1, 700), max_size=60))
    keyframes = [0]
    for gap in gaps:
        keyframes.append(keyframes[-1] + gap)
    return source(frames, [frame for frame in keyframes if frame < frames])


@st.composite
def segments(draw: st.DrawFn, frames: int) -> FrameRange:
    start = draw(st.integers(0, frames - 1))
    return FrameRange(start, draw(st.integers(start + 1, frames)))


@given(info=sources())
def test_borders_are_a_chunk_apart(info: pb.SourceInfo) -> None:
    places = borders(info, RATE, LENGTHS)
    assert all(LENGTHS.least <= b - a <= LENGTHS.most for a, b in pairwise([0, *places]))
    assert info.video.frame_count - (places or [0])[-1] <= LENGTHS.most


@given(info=sources(), data=st.data())
def test_chunks_tile_the_segment_and_have_fitting_lengths(
    info: pb.SourceInfo, data: st.DataObject
) -> None:
    whole = data.draw(segments(info.video.frame_count))
    chunks = chunks_of(whole.start, whole.end, borders(info, RATE, LENGTHS), LENGTHS)
    assert (chunks[0].start, chunks[-1].end) == (whole.start, whole.end)
    assert all(left.end == right.start for left, right in pairwise(chunks))
    assert sum(chunk.frame_count for chunk in chunks) == whole.frame_count
    shortest = min(LENGTHS.edge, whole.frame_count)
    assert all(shortest <= chunk.frame_count <= LENGTHS.most + LENGTHS.edge for chunk in chunks)


@pytest.mark.parametrize("moved", ["start", "end"])
@given(info=sources(), data=st.data())
def test_moving_an_end_of_a_segment_changes_only_the_chunks_there(
    moved: str, info: pb.SourceInfo, data: st.DataObject
) -> None:
    places = borders(info, RATE, LENGTHS)
    frames = info.video.frame_count
    whole = data.draw(segments(frames))
    if moved == "start":
        other = FrameRange(data.draw(st.integers(0, whole.end - 1)), whole.end)
        span = sorted((whole.start, other.start))
    else:
        other = FrameRange(whole.start, data.draw(st.integers(whole.start + 1, frames)))
        span = sorted((whole.end, other.end))
    before = set(chunks_of(whole.start, whole.end, places, LENGTHS))
    after = set(chunks_of(other.start, other.end, places, LENGTHS))
    # A chunk that touches the old or the new end, and the one that was merged with it.
    reach = LENGTHS.most + 2 * LENGTHS.edge
    for chunk in before ^ after:
        assert chunk.end > span[0] - reach
        assert chunk.start < span[1] + reach
    if span[1] - span[0] < LENGTHS.edge and whole.frame_count > 3 * LENGTHS.most:
        # One chunk changes; two where the end passes a border.
        assert len(before - after) <= 2
        assert len(after - before) <= 2
