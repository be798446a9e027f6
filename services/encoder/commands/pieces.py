"""The pieces of a recording whose clock jumps on the way. Pure.

A transport stream is one from wherever its packets begin. So what lies between two jumps is read
as a file of its own, in which timestamps only rise: seeking, margins and the sound's place beside
its pictures are as in any other source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from services.common.frames import FrameRange, rate_of
from services.common.planner import fraction_of
from videoexport.v1 import export_pb2 as pb

# In the query of a source's URL: the first byte of a piece and the one after it.
PIECE = "bytes"


@dataclass(frozen=True, slots=True)
class Piece:
    """What lies between two jumps of the clock.

    Attributes:
        position: its first byte.
        end: the byte after it.
        first_frame: its first one on the output's grid.
        end_frame: the first one after it; None where it is the last piece.
        origin: seconds on its clock at which frame 0 of the grid would begin.
    """

    position: int
    end: int
    first_frame: int
    end_frame: int | None
    origin: Fraction

    def url(self, source: str) -> str:
        """Return where it is read, from the source's URL on the gateway."""
        return f"{source}?{PIECE}={self.position}-{self.end}"


def pieces_of(info: pb.SourceInfo, rate: Fraction) -> list[Piece]:
    """Return the pieces of a source on a grid of `rate`; none where its clock does not jump."""
    if not info.time_breaks:
        return []
    own = rate_of(info.video.frame_rate)
    begins = [pb.TimeBreak(first_frame_time=info.first_frame_time), *info.time_breaks]
    ends = [*(each.position for each in info.time_breaks), info.size_bytes]
    frames = [ceil(each.frame * rate / own) for each in begins]
    return [
        Piece(
            position=each.position,
            end=end,
            first_frame=frame,
            end_frame=after,
            origin=fraction_of(each.first_frame_time) - each.frame / own,
        )
        for each, end, frame, after in zip(begins, ends, frames, [*frames[1:], None], strict=True)
        if after is None or frame < after
    ]


def split_at_breaks(
    frames: FrameRange, pieces: Sequence[Piece]
) -> Iterator[tuple[Piece, FrameRange]]:
    """Yield what each piece has of a range, in order."""
    for piece in pieces:
        start = max(frames.start, piece.first_frame)
        end = frames.end if piece.end_frame is None else min(frames.end, piece.end_frame)
        if start < end:
            yield piece, FrameRange(start, end)
