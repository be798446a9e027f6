"""The chapters of an output: those of the source, where its segments show them. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# Of a source, and of an output: they travel with tasks, and no player shows more.
MAX_CHAPTERS = 500


@dataclass(frozen=True, slots=True)
class Place:
    """Frames that something is shown in.

    Attributes:
        index: of what is shown.
        start: first frame of the output.
        end: first frame of the output after it.
    """

    index: int
    start: int
    end: int


def retimed(
    chapters: Sequence[tuple[int, int]], segments: Sequence[tuple[int, int]]
) -> list[Place]:
    """Return where chapters of a source are in its output, in the output's order.

    What a segment shows of a chapter is a chapter. Where the next segment goes on in the same
    chapter, with or without a cut, so does it: a chapter is where one may want to jump to.

    Args:
        chapters: frames of the source's grid, `end` not included, by their beginning. One
            that the next begins in ends there.
        segments: frames of the source's grid, in the order of the output.
    """
    starts = [start for start, _ in chapters]
    limits = [*starts[1:], *(end for _, end in chapters[-1:])]
    ends = [min(end, limit) for (_, end), limit in zip(chapters, limits, strict=True)]
    found: list[Place] = []
    place = 0
    shown_until = 0
    for start, end in segments:
        for index in range(max(0, bisect_right(starts, start) - 1), len(chapters)):
            if starts[index] >= end:
                break
            first, last = max(start, starts[index]), min(end, ends[index])
            if first >= last:
                continue
            begin, until = place + first - start, place + last - start
            before = found[-1] if found else None
            goes_on = before is not None and (before.index, before.end) == (index, begin)
            if before is not None and goes_on and first >= shown_until:
                found[-1] = Place(index, before.start, until)
            elif len(found) == MAX_CHAPTERS:
                return found
            else:
                found.append(Place(index, begin, until))
            shown_until = last
        place += end - start
    return found


def filled(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the gaps before and between places, in frames of the output."""
    edges = [(0, 0), *places]
    return [(end, start) for (_, end), (start, _) in pairwise(edges) if end < start]
