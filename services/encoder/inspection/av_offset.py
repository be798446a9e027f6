"""How far sound and pictures of a finished file are apart, by its timestamps. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Shown:
    """When the packets of a stream are shown or heard.

    Attributes:
        tick: seconds.
        starts: ascending, in ticks.
        lengths: in ticks; of sound in the order of `starts`.
    """

    tick: Fraction
    starts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


def largest_av_offset(pictures: Shown, duration: Fraction, sound: Shown) -> Fraction | None:
    """Return the most that any frame is off the samples that belong to it, in seconds.

    Frames are due one after the other, equally long; samples are due without a gap from the
    beginning of the file on, what is before it being left of the codec's priming. So every
    place where two segments meet is among those compared, wherever it is.

    Args:
        duration: of the pictures, in seconds.

    Returns:
        None where one of them has nothing to compare.
    """
    count = len(pictures.starts)
    if not count or not sound.starts:
        return None
    # In whole numbers: fractions take ten times as long, and a day has millions of frames.
    frame = duration / count
    unit = math.lcm(*(each.denominator for each in (pictures.tick, sound.tick, frame)))
    picture, sample, step = (int(each * unit) for each in (pictures.tick, sound.tick, frame))
    worst = heard = 0
    due = min(sound.starts[0], 0)
    for place, start in enumerate(pictures.starts):
        time = start * picture
        while heard + 1 < len(sound.starts) and (due + sound.lengths[heard]) * sample <= time:
            due += sound.lengths[heard]
            heard += 1
        late = (sound.starts[heard] - due) * sample
        worst = max(worst, abs(time - place * step - late))
    return Fraction(worst, unit)
