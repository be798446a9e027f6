"""Whether an output is what its case says. Pure: each returns what is wrong, in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from google.protobuf.duration_pb2 import Duration

from conformance.coloured import patch_problems, worst_patch
from conformance.drawn import drawn_problems
from conformance.evidence import Evidence
from conformance.expected import clicks_of, cuts_of, frames_of
from conformance.heard import (
    aim_problems,
    click_problems,
    damaged_spans,
    length_problems,
    level_problems,
    offset_problems,
    step_problems,
)
from conformance.marks import mark_problems
from conformance.told import subtitle_problems, told_problems
from services.common.errors import Reason
from tests.media.corner_marks import UPRIGHT
from tests.media.read_back import Seen, Shown
from tests.media.recipes.recipe import Range, Recipe
from videoexport.v1 import export_pb2 as pb

# What scaling and the loss of a codec move an edge by.
BOX_TOLERANCE = 2
# Timestamps are rounded to ticks that may be as long as 1 ms.
TIME_TOLERANCE = Fraction(1, 1000)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of an output.

    Attributes:
        problems: empty where it is what the case says.
        delta_e: the largest of any corner, or patch; None where colours are not compared.
        offset: the largest of a click from its picture, in seconds; None without clicks.
        joins: segments whose offset was measured.
    """

    problems: tuple[str, ...]
    delta_e: float | None = None
    offset: float | None = None
    joins: int = 0


def measure(
    recipe: Recipe,
    evidence: Evidence,
    ranges: Sequence[Range],
    warnings: Sequence[pb.ExportWarning] = (),
) -> Measured:
    """Compare an output with its case.

    Args:
        ranges: frames of the output's grid that it shows.
        warnings: that its owner is given.
    """
    rate = recipe.output_rate
    told = told_frames(warnings, rate)
    problems = [*stored_problems(recipe, evidence), *warning_problems(recipe, warnings)]
    if recipe.pictures:
        problems += [*size_problems(recipe, evidence.shown)]
        problems += time_problems(evidence.shown, rate, ranges)
    worst = None
    if recipe.looks is None:
        found, worst = numbered_problems(recipe, evidence, rate, ranges, told)
        problems += found
    elif evidence.coloured is not None:
        problems += patch_problems(recipe.looks, evidence.coloured)
        worst = worst_patch(recipe.looks, evidence.coloured)
    problems += colour_problems(recipe, worst)
    problems += length_problems(recipe, evidence, rate, ranges)
    problems += level_problems(recipe, evidence)
    problems += [*step_problems(recipe, evidence), *aim_problems(recipe, evidence)]
    problems += subtitle_problems(recipe.subtitles, evidence.says.subtitles)
    if recipe.drawn is not None:
        problems += drawn_problems(recipe.drawn, evidence.drawn)
    if recipe.mark is not None:
        problems += mark_problems(recipe.mark[1], evidence.marks)
    if recipe.told is not None:
        problems += told_problems(recipe.told, evidence.says, rate)
    offsets: dict[int, float] = {}
    if recipe.sound and recipe.clicks:
        lost, damaged = damaged_spans(told, rate, ranges)
        silent = [*recipe.silent, *lost]
        expected = clicks_of(recipe.clip, rate, ranges, recipe.starts, silent)
        found, offsets = click_problems(expected, evidence.clicks, cuts_of(rate, ranges), damaged)
        problems += found
        problems += offset_problems(recipe, offsets)
    return Measured(
        tuple(problems),
        worst if recipe.delta_e is not None else None,
        max(offsets.values(), default=None),
        len(offsets),
    )


def numbered_problems(
    recipe: Recipe,
    evidence: Evidence,
    rate: Fraction,
    ranges: Sequence[Range],
    told: frozenset[int],
) -> tuple[list[str], float | None]:
    """Return what is wrong with pictures that carry numbers, and how far colours are off."""
    frames = evidence.shown.frames
    problems = frame_problems(recipe, frames, rate, ranges, told) if recipe.pictures else []
    source = [frame for start, end in ranges for frame in range(start, end)]
    pictures = [
        frame
        for place, frame in enumerate(frames)
        if frame.corners is not None and (place >= len(source) or source[place] not in told)
    ]
    problems += [*orientation_problems(pictures), *box_problems(recipe, pictures)]
    return problems, worst_colour(pictures) if recipe.clip.colours is not None else None


def stored_problems(recipe: Recipe, evidence: Evidence) -> list[str]:
    """Return whether there are pictures where there must be, stored as they must be."""
    if not recipe.pictures:
        return ["pictures in what is sound alone"] if evidence.stored else []
    if recipe.stored is None or evidence.stored == recipe.stored:
        return []
    return [f"stored as {evidence.stored} instead of {recipe.stored}"]


def size_problems(recipe: Recipe, shown: Shown) -> list[str]:
    """Return whether the output has the size, and square pixels."""
    problems = []
    if shown.size != recipe.output_size:
        problems.append(f"{_size(shown.size)} pixels instead of {_size(recipe.output_size)}")
    if not shown.square:
        problems.append("pixels that are not square")
    return problems


def time_problems(shown: Shown, rate: Fraction, ranges: Sequence[Range]) -> list[str]:
    """Return whether there are as many frames as planned, each when it is due."""
    problems = []
    wanted = sum(end - start for start, end in ranges)
    if len(shown.times) != wanted:
        problems.append(f"{len(shown.times)} frames instead of {wanted}")
    if wanted > 1 and abs(shown.rate - rate) > rate / 10_000:
        problems.append(f"{float(shown.rate):.3f} frames a second instead of {float(rate):.3f}")
    late = [
        place for place, time in enumerate(shown.times) if abs(time - place / rate) > TIME_TOLERANCE
    ]
    if late:
        place = late[0]
        off = float(shown.times[place] - place / rate) * 1000
        problems.append(f"frame {place} is shown {off:+.1f} ms from when it is due")
    return problems


def told_frames(warnings: Sequence[pb.ExportWarning], rate: Fraction) -> frozenset[int]:
    """Return the frames of the grid that lie at times that an owner is told of."""

    def frame(duration: Duration) -> int:
        return round((duration.seconds + Fraction(duration.nanos, 10**9)) * rate)

    return frozenset(
        number
        for warning in warnings
        for each in warning.time_ranges
        for number in range(frame(each.start_time), frame(each.end_time))
    )


def warning_problems(recipe: Recipe, warnings: Sequence[pb.ExportWarning]) -> list[str]:
    """Return whether the owner is told what the case says, and nothing else."""
    codes = sorted({warning.code for warning in warnings})
    if codes == sorted(recipe.codes):
        return []
    said = "; ".join(f"{warning.code}: {warning.message}" for warning in warnings)
    wanted = ", ".join(recipe.codes) or "nothing"
    return [f"the owner is warned of {said or 'nothing'}, not of {wanted}"]


def frame_problems(
    recipe: Recipe,
    seen: Sequence[Seen],
    rate: Fraction,
    ranges: Sequence[Range],
    told: frozenset[int] = frozenset(),
) -> list[str]:
    """Return whether every frame is the right one, but for those that are told to be damaged."""
    found = [frame.number for frame in seen]
    if recipe.in_order:
        unreadable = sum(number is None for number in found)
        if unreadable:
            return [f"{unreadable} of {len(found)} frames cannot be read"]
        if any(b < a for a, b in pairwise(number for number in found if number is not None)):
            return ["frames out of order"]
        return []
    wanted = _wanted(recipe, found, rate, ranges)
    pairs = zip(found, wanted, strict=False)
    wrong = [place for place, (number, due) in enumerate(pairs) if number != due]
    right = min(len(found), len(wanted)) - len(wrong)
    source = [frame for start, end in ranges for frame in range(start, end)]
    untold = [place for place in wrong if source[place] not in told]
    if right >= recipe.least_right * len(wanted):
        wrong = untold
        if not wrong:
            return []
    if not wrong:
        return [f"only {right} of {len(wanted)} frames"]
    place = wrong[0]
    return [
        f"{len(wrong)} of {len(wanted)} frames are wrong: the first, frame {place}, shows "
        f"{'nothing readable' if found[place] is None else found[place]} instead of {wanted[place]}"
    ]


def _wanted(
    recipe: Recipe, found: Sequence[int | None], rate: Fraction, ranges: Sequence[Range]
) -> list[int | None]:
    """Return the numbers that frames must carry.

    Where a picture begins right in the middle of a frame, it may be rounded to either side, but
    to the same one all along a segment: else pictures would jerk.
    """
    if recipe.numbers is not None:
        known = dict(enumerate(recipe.numbers))
        return [known.get(frame, -1) for start, end in ranges for frame in range(start, end)]
    wanted: list[int | None] = []
    for span in ranges:
        ways = [
            frames_of(recipe.clip, rate, [span], recipe.starts, at_middle=rounded)
            for rounded in (False, True)
        ]
        there = found[len(wanted) :]
        wanted += max(ways, key=lambda way: sum(a == b for a, b in zip(way, there, strict=False)))
    return wanted


def orientation_problems(pictures: Sequence[Seen]) -> list[str]:
    """Return whether all pictures are upright."""
    ways = {frame.corners.orientation for frame in pictures if frame.corners is not None}
    ways -= {UPRIGHT}
    told = ", ".join(sorted(ways)).replace("?", "without their corners")
    return [f"pictures are {told}"] if ways else []


def box_problems(recipe: Recipe, pictures: Sequence[Seen]) -> list[str]:
    """Return whether pictures lie where they must."""
    width, height = recipe.output_size
    wanted = recipe.box or (0, 0, width, height)
    for frame in pictures:
        if any(abs(a - b) > BOX_TOLERANCE for a, b in zip(frame.box, wanted, strict=True)):
            return [f"the picture lies at {_box(frame.box)} instead of {_box(wanted)}"]
    return []


def worst_colour(pictures: Sequence[Seen]) -> float | None:
    """Return the largest ΔE2000 of any corner of any upright picture."""
    return max(
        (
            max(frame.corners.delta_e)
            for frame in pictures
            if frame.corners is not None and frame.number is not None
        ),
        default=None,
    )


def colour_problems(recipe: Recipe, worst: float | None) -> list[str]:
    """Return whether the corners have their colours."""
    if recipe.delta_e is None or worst is None or worst <= recipe.delta_e:
        return []
    return [f"colours are off by ΔE2000 {worst:.1f}, more than {recipe.delta_e:g}"]


def refusal_problems(recipe: Recipe, reason: str, sentence: str) -> list[str]:
    """Return whether a failed export says why, as the case does, in words for a person."""
    problems = []
    wanted = recipe.refused
    if reason not in Reason.__members__:
        problems.append(f"{reason} is no reason of docs/errors.md")
    if "/" in sentence.replace(" / ", "") or "0x" in sentence:
        problems.append(f"no sentence for a person: {sentence}")
    if wanted is None:
        problems.append(f"refused: {reason}: {sentence}")
    elif reason != wanted.reason:
        problems.append(f"{reason} ({sentence}) instead of {wanted.reason}")
    elif re.search(wanted.words, sentence) is None:
        problems.append(f"says “{sentence}”, not “{wanted.words}”")
    return problems


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _box(box: tuple[int, int, int, int]) -> str:
    return f"{box[0]}, {box[1]} ({box[2]} × {box[3]})"
