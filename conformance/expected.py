"""Which frames and clicks a case must show, by rule. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tests.media.frame_codes import Clip
from tests.media.recipes.recipe import Range

# A click is 5 ms long, and a cut fades for 4 ms: nearer to a cut it may be heard in part.
CUT_MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Click:
    """A click that must be heard.

    Attributes:
        time: in the output, in seconds.
        tone: its place among the clip's tones.
        segment: of the output, counted from 0.
    """

    time: float
    tone: int
    segment: int


def frames_of(
    clip: Clip,
    rate: Fraction,
    ranges: Sequence[Range],
    starts: Fraction = Fraction(0),
    *,
    at_middle: bool = False,
) -> list[int]:
    """Return the number that each frame of the output must carry.

    A frame shows the picture that the source shows in the middle of it; before the first
    picture that is the first.

    Args:
        rate: frames per second of the output.
        ranges: of frames at that rate.
        starts: seconds of the clip at which they are counted from.
        at_middle: whether a picture that begins right in the middle of a frame is shown by it,
            not by the next one.
    """
    find = bisect_right if at_middle else bisect_left
    shown = clip.numbers
    numbers = []
    for start, end in ranges:
        for frame in range(start, end):
            place = (starts + (frame + Fraction(1, 2)) / rate) * clip.rate
            numbers.append(shown[max(0, find(shown, place) - 1)])
    return numbers


def clicks_of(
    clip: Clip,
    rate: Fraction,
    ranges: Sequence[Range],
    starts: Fraction = Fraction(0),
    silent: Sequence[tuple[float, float]] = (),
) -> list[Click]:
    """Return the clicks that lie well inside a range.

    Args:
        silent: spans of the clip in seconds, from and to, that have lost their sound.
    """
    if clip.clicks is None:
        return []
    clicks = []
    frames_before = 0
    for segment, (start, end) in enumerate(ranges):
        first = float(starts + start / rate)
        last = min(float(starts + end / rate), clip.seconds)
        count = max(1, int((first - clip.audio_delay) / clip.clicks))
        while (time := clip.audio_delay + count * clip.clicks) < last - CUT_MARGIN / 2:
            lost = any(begin <= time < end_of for begin, end_of in silent)
            if time > first + CUT_MARGIN and not lost:
                heard = float(frames_before / rate) + time - first
                clicks.append(Click(heard, count % len(clip.tones), segment))
            count += 1
        frames_before += end - start
    return clicks


def cuts_of(rate: Fraction, ranges: Sequence[Range]) -> list[float]:
    """Return when segments of the output begin and end, in seconds."""
    places, frames = [0.0], 0
    for start, end in ranges:
        frames += end - start
        places.append(float(frames / rate))
    return places
