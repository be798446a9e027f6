"""Whether what is heard of an output is what its case says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from conformance.evidence import Evidence, Heard
from conformance.expected import CUT_MARGIN, Click, cuts_of
from services.common.errors import Reason
from tests.media.recipes.recipe import Range, Recipe

LENGTH_TOLERANCE = 0.002
# What a lossy codec changes of a steady tone, and what is as good as silence.
LEVEL_TOLERANCE = 0.5
SILENT = -50.0
# LU that an output may be off the loudness asked for, and the true peak that none may exceed, by
# another meter than the one that it was made with: one's -1 dBTP are another's -0.8.
AIM_TOLERANCE, MOST_PEAK = 0.5, -0.7
# Clicks further off are other clicks.
_NEAR = 0.1


def length_problems(
    recipe: Recipe, evidence: Evidence, rate: Fraction, ranges: Sequence[Range]
) -> list[str]:
    """Return whether there is sound where there must be, as long as the pictures."""
    seconds = evidence.seconds_of_sound
    if not recipe.sound:
        return [] if seconds is None else ["sound where the source has none"]
    if seconds is None:
        return ["no sound"]
    wanted = cuts_of(rate, ranges)[-1]
    if abs(seconds - wanted) > LENGTH_TOLERANCE:
        return [f"{seconds:.3f} s of sound to {wanted:.3f} s of pictures"]
    return []


def damaged_spans(
    frames: frozenset[int], rate: Fraction, ranges: Sequence[Range]
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return from when to when sound may be damaged, in seconds: of the source, of the output.

    Args:
        frames: of the grid, that are told to be damaged.
    """
    shown = (frame for start, end in ranges for frame in range(start, end))
    places = [place for place, frame in enumerate(shown) if frame in frames]
    return _spans(frames, rate), _spans(places, rate)


def _spans(frames: Iterable[int], rate: Fraction) -> list[tuple[float, float]]:
    # What lies just beside them may be heard in part.
    return [
        (float(frame / rate) - CUT_MARGIN, float((frame + 1) / rate) + CUT_MARGIN)
        for frame in frames
    ]


def click_problems(
    expected: Sequence[Click],
    heard: Sequence[Heard],
    cuts: Sequence[float],
    damaged: Sequence[tuple[float, float]] = (),
) -> tuple[list[str], dict[int, float]]:
    """Return whether each click is heard and no other one, and by how much they are off.

    Args:
        cuts: seconds at which segments begin and end; a click there may be heard in part.
        damaged: spans in seconds, from and to, where anything may be heard.

    Returns:
        What is wrong, and by segment the largest offset in seconds.
    """
    problems: list[str] = []
    offsets: dict[int, float] = {}
    left = list(heard)
    for click in expected:
        near = [each for each in left if abs(each.time - click.time) <= _NEAR]
        near = [each for each in near if each.tone == click.tone]
        if not near:
            problems.append(f"no click at {click.time:.3f} s")
            continue
        nearest = min(near, key=lambda each: abs(each.time - click.time))
        left.remove(nearest)
        off = abs(nearest.time - click.time)
        offsets[click.segment] = max(off, offsets.get(click.segment, 0.0))
    strange = [
        each
        for each in left
        if min(abs(each.time - cut) for cut in cuts) > CUT_MARGIN + 0.005
        and not any(start <= each.time < end for start, end in damaged)
    ]
    if strange:
        problems.append(f"a click at {strange[0].time:.3f} s that does not belong there")
    if len(problems) > 2:
        problems = [problems[0], f"{len(problems) - 1} more clicks wrong"]
    return problems, offsets


def offset_problems(recipe: Recipe, offsets: dict[int, float]) -> list[str]:
    """Return whether sound and pictures are together, at as many places as must be."""
    problems = []
    if offsets and (worst := max(offsets.values())) > recipe.offset:
        place = max(offsets, key=lambda segment: offsets[segment])
        problems.append(f"sound is {worst * 1000:.1f} ms off its pictures in segment {place}")
    if len(offsets) < recipe.joins:
        problems.append(f"sound and pictures compared at {len(offsets)} of {recipe.joins} places")
    return problems


def level_problems(recipe: Recipe, evidence: Evidence) -> list[str]:
    """Return whether each tone is as loud on each side as it must be, beside the others."""
    if not recipe.levels or not evidence.levels:
        return []
    found_top = max(max(pair) for pair in evidence.levels.values())
    wanted_top = max(max(pair) for pair in recipe.levels.values())
    problems = []
    for tone, wanted in recipe.levels.items():
        for side, want, level in zip(("left", "right"), wanted, evidence.levels[tone], strict=True):
            found, due = level - found_top, want - wanted_top
            silent = due <= SILENT and found <= SILENT
            if not silent and abs(found - due) > LEVEL_TOLERANCE:
                problems.append(f"{tone} Hz is {found:+.1f} dB {side} instead of {due:+.1f}")
    return problems


def step_problems(recipe: Recipe, evidence: Evidence) -> list[str]:
    """Return whether the sound goes on without a jump, at cuts as elsewhere."""
    if recipe.smooth is None or evidence.step is None or evidence.step <= recipe.smooth:
        return []
    return [f"the sound jumps by {evidence.step:.3f} of full scale"]


def aim_problems(recipe: Recipe, evidence: Evidence) -> list[str]:
    """Return whether the sound is as loud as is asked for, and no peak too high."""
    if evidence.loudness is None:
        return []
    loudness, peak = evidence.loudness
    wanted = recipe.settings.loudness_lufs
    problems = []
    missed = abs(loudness - wanted) > AIM_TOLERANCE
    if missed != (Reason.LOUDNESS_MISSED in recipe.codes):
        problems.append(f"{loudness:.1f} LUFS instead of {wanted:.1f}")
    if peak > MOST_PEAK:
        problems.append(f"a true peak of {peak:.1f} dBTP")
    return problems
