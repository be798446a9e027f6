"""Which piece of a recording has which frames, and when they show on its clock."""

from __future__ import annotations

from fractions import Fraction

from google.protobuf.duration_pb2 import Duration

from services.common.frames import FrameRange
from services.encoder.commands.filters import Timeline
from services.encoder.commands.pieces import pieces_of
from services.encoder.commands.readings import readings_of
from videoexport.v1 import export_pb2 as pb

PAL = Fraction(25)


def source(*breaks: tuple[int, int, int]) -> pb.SourceInfo:
    """Return a source of 25 frames a second: breaks by byte, frame and second of their clock."""
    info = pb.SourceInfo(size_bytes=1000, first_frame_time=Duration(seconds=50))
    info.video.frame_rate.CopyFrom(pb.Rational(numerator=25, denominator=1))
    for position, frame, seconds in breaks:
        info.time_breaks.add(
            position=position, frame=frame, first_frame_time=Duration(seconds=seconds)
        )
    return info


def test_frames_are_read_in_the_piece_that_has_them() -> None:
    pieces = pieces_of(source((300, 100, 7), (600, 200, 3)), PAL)
    ranges = [FrameRange(90, 220), FrameRange(110, 120), FrameRange(130, 140)]
    readings = readings_of(ranges, pieces, max_gap=50)
    assert [(reading.url("u"), reading.begins, reading.ranges) for reading in readings] == [
        ("u?bytes=0-300", 0, (FrameRange(90, 100),)),
        ("u?bytes=300-600", 100, (FrameRange(100, 200),)),
        ("u?bytes=600-1000", 200, (FrameRange(200, 220),)),
        ("u?bytes=300-600", 100, (FrameRange(110, 120), FrameRange(130, 140))),
    ]


def test_frame_shows_when_the_clock_of_its_piece_says() -> None:
    timeline = Timeline(PAL, Fraction(50))
    for piece, frame, seconds in zip(
        pieces_of(source((300, 100, 7), (600, 200, 3)), PAL), (0, 100, 200), (50, 7, 3), strict=True
    ):
        clock = timeline.of(piece)
        assert clock.time(frame) == seconds
        assert clock.time(frame + 25) == seconds + 1


def test_frame_of_another_rate_is_in_the_piece_where_it_begins() -> None:
    rate = Fraction(30)
    [first, second] = pieces_of(source((300, 101, 7)), rate)
    # 4.04 s of the source: the frame of 4 s is before it, that of 4.0667 s after it.
    assert (first.end_frame, second.first_frame) == (122, 122)
    clock = Timeline(rate, Fraction(50)).of(second)
    assert clock.time(122) == 7 + Fraction(122, 30) - Fraction(101, 25)


def test_piece_without_a_frame_is_not_read() -> None:
    pieces = pieces_of(source((300, 100, 0), (320, 100, 3)), PAL)
    assert [(piece.position, piece.end) for piece in pieces] == [(0, 300), (320, 1000)]


def test_source_in_one_piece_is_read_whole() -> None:
    assert pieces_of(source(), PAL) == []
    [reading] = readings_of([FrameRange(0, 10)], [], max_gap=50)
    assert (reading.url("u"), reading.begins) == ("u", 0)
