"""Ranges are grouped without losing, adding or reordering a frame."""

from fractions import Fraction

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from services.common.frames import FrameRange
from services.encoder.commands.readings import (
    Reading,
    group_ranges,
    input_limit,
    max_gap,
    split_readings,
)
from videoexport.v1 import export_pb2 as pb

RANGES = st.lists(
    st.tuples(st.integers(0, 500), st.integers(1, 60)).map(lambda r: FrameRange(r[0], sum(r))),
    min_size=1,
    max_size=60,
)


def frames(ranges: list[FrameRange] | tuple[FrameRange, ...]) -> list[int]:
    return [frame for each in ranges for frame in range(each.start, each.end)]


@given(RANGES, st.integers(0, 100))
def test_grouping_keeps_every_frame_in_order(ranges: list[FrameRange], gap: int) -> None:
    readings = group_ranges(ranges, gap)
    assert frames([each for reading in readings for each in reading.ranges]) == frames(ranges)


@given(RANGES, st.integers(0, 100))
def test_reading_goes_forward_over_gaps_no_longer_than_allowed(
    ranges: list[FrameRange], gap: int
) -> None:
    for reading in group_ranges(ranges, gap):
        for before, after in zip(reading.ranges, reading.ranges[1:], strict=False):
            assert 0 < after.start - before.end <= gap


def test_neighbours_share_a_reading_and_touching_ranges_become_one() -> None:
    ranges = [FrameRange(0, 10), FrameRange(10, 20), FrameRange(25, 30), FrameRange(36, 40)]
    assert group_ranges(ranges, 5) == [
        Reading((FrameRange(0, 20), FrameRange(25, 30))),
        Reading((FrameRange(36, 40),)),
    ]


@pytest.mark.parametrize("second", [FrameRange(5, 15), FrameRange(0, 10), FrameRange(9, 10)])
def test_overlap_and_repetition_begin_a_new_reading(second: FrameRange) -> None:
    assert len(group_ranges([FrameRange(0, 10), second], 100)) == 2


@given(st.integers(1, 300), st.integers(1, 64))
def test_parts_hold_all_readings_in_order_and_no_more_than_the_limit(
    count: int, limit: int
) -> None:
    readings = [Reading((FrameRange(10 * n, 10 * n + 1),)) for n in range(count)]
    parts = split_readings(readings, limit)
    assert [reading for part in parts for reading in part] == readings
    assert all(0 < len(part) <= limit for part in parts)
    assert len(parts) == -(-count // limit)


def test_gap_is_a_gop_where_the_index_tells_it_but_never_long() -> None:
    video = pb.VideoStream()
    assert max_gap(video, Fraction(25)) == 125
    video.max_keyframe_interval.CopyFrom(Duration(seconds=2, nanos=400_000_000))
    assert max_gap(video, Fraction(25)) == 60
    video.max_keyframe_interval.CopyFrom(Duration(seconds=60))
    assert max_gap(video, Fraction(25)) == 250


@pytest.mark.parametrize(
    ("width", "height", "low", "high"),
    [(128, 72, 64, 64), (1280, 720, 25, 40), (1920, 1080, 12, 20), (3840, 2160, 2, 5)],
)
def test_fewer_inputs_are_open_at_once_the_larger_the_picture(
    width: int, height: int, low: int, high: int
) -> None:
    video = pb.VideoStream(width=width, height=height, bit_depth=8, frame_count=18_000)
    assert low <= input_limit(pb.SourceInfo(video=video), pictures=True) <= high


def test_finished_pictures_of_a_larger_output_are_held_by_each_input() -> None:
    info = pb.SourceInfo(video=pb.VideoStream(width=640, height=360, frame_count=18_000))
    small, large = pb.Plan(width=320, height=180), pb.Plan(width=3840, height=2160)
    assert input_limit(info, pictures=True) == 64
    assert input_limit(info, pictures=True, held=small) == 64
    assert input_limit(info, pictures=True, held=large) <= 5


def test_long_source_still_gets_an_input() -> None:
    video = pb.VideoStream(width=8192, height=8192, bit_depth=12, frame_count=10**8)
    assert input_limit(pb.SourceInfo(video=video), pictures=True) == 1


def test_sound_alone_holds_no_pictures() -> None:
    video = pb.VideoStream(width=8192, height=8192, bit_depth=12, frame_count=18_000)
    assert input_limit(pb.SourceInfo(video=video), pictures=False) == 64


def test_reading_serves_a_bounded_number_of_ranges() -> None:
    ranges = [FrameRange(10 * n, 10 * n + 5) for n in range(150)]
    readings = group_ranges(ranges, 5)
    assert [len(reading.ranges) for reading in readings] == [64, 64, 22]
    assert [frames for reading in readings for frames in reading.ranges] == ranges


def test_ranges_that_touch_are_one_even_in_a_full_reading() -> None:
    ranges = [FrameRange(10 * n, 10 * n + 5) for n in range(64)] + [FrameRange(635, 640)]
    [reading] = group_ranges(ranges, 5)
    assert reading.ranges[-1] == FrameRange(630, 640)
