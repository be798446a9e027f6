"""Where the pictures of a long export are cut into chunks. Pure.

A chunk is a range of the source's frames that one task encodes and every export that
needs the same range can use. So borders lie at places that depend on the source alone,
never on the segment around them: an edit elsewhere leaves them where they are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from services.common.frames import FrameRange, joined
from services.common.smart_copy import copied_run
from videoexport.v1 import export_pb2 as pb

# Of what is copied: it costs no encoder's start, so parts are long; but what is there is not
# read again, and several encoders share the work.
COPIED_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an output's pictures.

    Attributes:
        copied: whether they are taken from the source as they are.
    """

    frames: FrameRange
    copied: bool = False


@dataclass(frozen=True, slots=True)
class ChunkLengths:
    """How long chunks are, in frames.

    A chunk costs a start of FFmpeg, a keyframe and the lookahead of its first pictures:
    of 8 s about 4 % of the CPU, of 1 s more than half. Longer ones make an edit dearer and
    the last slot of an export wait longer.

    Attributes:
        target: between two borders, where the source does not suggest another length.
        least: between two borders.
        most: between two borders.
        edge: the shortest piece between a border and the end of a segment.
    """

    target: int
    least: int
    most: int
    edge: int

    @classmethod
    def of(cls, seconds: float, rate: Fraction) -> ChunkLengths:
        """Return the lengths around a target in seconds: of 8 s, 6 to 10 s and edges of 2 s."""
        frames = Fraction(seconds) * rate
        target = max(8, round(frames))
        return cls(target, target * 3 // 4, target * 5 // 4, target // 4)


def borders(info: pb.SourceInfo, rate: Fraction, lengths: ChunkLengths) -> list[int]:
    """Return the places where chunks of a source may end, in frames of a grid of `rate`.

    On a keyframe where one lies at a fitting distance from the border before it, for a
    chunk that begins there decodes nothing in vain; otherwise `lengths.target` further on.
    """
    own = Fraction(info.video.frame_rate.numerator, info.video.frame_rate.denominator)
    keyframes = [round(frame * rate / own) for frame in info.video.keyframes]
    end = round(info.video.frame_count * rate / own)
    found: list[int] = []
    last = 0
    while (wish := last + lengths.target) < end:
        first = bisect_left(keyframes, last + lengths.least)
        fitting = keyframes[first : bisect_right(keyframes, last + lengths.most)]
        last = min(fitting, key=lambda frame: abs(frame - wish), default=wish)
        found.append(last)
    return found


def chunks_of(
    start: int, end: int, places: Sequence[int], lengths: ChunkLengths
) -> list[FrameRange]:
    """Return the chunks of a segment, in order: without a gap, none shorter than an edge.

    A piece at the segment's end that would be too short goes with its neighbour. Only
    where that makes one chunk of a whole segment too long, it is cut in the middle
    between the borders.
    """
    inside = list(places[bisect_right(places, start) : bisect_left(places, end)])
    kept = [place for place in inside if start + lengths.edge <= place <= end - lengths.edge]
    if not kept and len(inside) > 1 and end - start > lengths.most + lengths.edge:
        kept = [(inside[0] + inside[-1]) // 2]
    ends = [start, *kept, end]
    return [FrameRange(a, b) for a, b in pairwise(ends)]


def pieces_of(info: pb.SourceInfo, plan: pb.Plan, chunk_seconds: float) -> list[Piece]:
    """Return the parts of an output, in order; a range that is shown twice is there twice."""
    rate = Fraction(plan.frame_rate.numerator, plan.frame_rate.denominator)
    lengths = ChunkLengths.of(chunk_seconds, rate)
    places = borders(info, rate, lengths)
    found: list[Piece] = []
    for span in joined(plan.segments):
        run = copied_run(info.video, span) if plan.quality == pb.QUALITY_SOURCE else None
        copied = [] if run is None else _copies(run, info.video.keyframes, COPIED_SECONDS * rate)
        encoded = (
            [span]
            if run is None
            else [FrameRange(span.start, run.start), FrameRange(run.end, span.end)]
        )
        pieces = [
            Piece(chunk)
            for edge in encoded
            if edge.frame_count
            for chunk in chunks_of(edge.start, edge.end, places, lengths)
        ]
        copies = [Piece(frames, copied=True) for frames in copied]
        found += sorted([*pieces, *copies], key=lambda piece: piece.frames.start)
    return found


def _copies(run: FrameRange, keyframes: Sequence[int], length: Fraction) -> list[FrameRange]:
    """Return the parts that a run is copied in: to the first keyframe after each `length`."""
    ends = [run.start]
    for number in range(int(run.start / length) + 1, int(run.end / length) + 1):
        place = bisect_left(keyframes, number * length)
        if place < len(keyframes) and ends[-1] < keyframes[place] < run.end:
            ends.append(keyframes[place])
    return [FrameRange(a, b) for a, b in pairwise([*ends, run.end])]
