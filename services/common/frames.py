"""Ranges of frames, half-open as everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from videoexport.v1 import export_pb2 as pb


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Frames `start` to `end` of a grid, `end` not included."""

    start: int
    end: int

    @property
    def frame_count(self) -> int:
        """How many frames it holds."""
        return self.end - self.start


def rate_of(rate: pb.Rational) -> Fraction:
    """Return frames per second, exactly."""
    return Fraction(rate.numerator, rate.denominator)


def joined(segments: Iterable[pb.PlannedSegment]) -> list[FrameRange]:
    """Return the ranges of segments, in order; one that goes on where the last ended joins it."""
    found: list[FrameRange] = []
    for segment in segments:
        if found and found[-1].end == segment.start_frame:
            found[-1] = FrameRange(found[-1].start, segment.end_frame)
        else:
            found.append(FrameRange(segment.start_frame, segment.end_frame))
    return found
