"""Which frames of an output are compared with its source. Pure."""

from __future__ import annotations

from fractions import Fraction

from services.common.frames import FrameRange

# All of a short output, and of a longer one as much, in so many places: means over it stand
# still after that, and to compare an hour would take hours.
MOST_SECONDS = 60
PLACES = 12


def compared_spans(frame_count: int, rate: Fraction) -> list[FrameRange]:
    """Return frames of an output, from its beginning to its end, in order and apart."""
    most = round(MOST_SECONDS * rate)
    if frame_count <= most:
        return [FrameRange(0, frame_count)]
    length = most // PLACES
    room = frame_count - length
    starts = [room * place // (PLACES - 1) for place in range(PLACES)]
    return [FrameRange(start, start + length) for start in starts]


def compared_frames(frame_count: int, rate: Fraction) -> int:
    """Return how many frames of an output are compared."""
    return sum(span.frame_count for span in compared_spans(frame_count, rate))
