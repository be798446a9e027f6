"""Which frame rate timestamps have. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

# Rates that cameras and recorders mean when they come close.
USUAL_RATES = tuple(
    Fraction(rate)
    for rate in ("24000/1001", "24", "25", "30000/1001", "30", "48", "50", "60000/1001", "60")
)
MAX_RATE = Fraction(1000)
# The rate is constant but for holes where more than this share of the frames comes at
# once after the one before: frames dropped here and there, pauses of a screen recording.
_STEADY = Fraction(1, 2)
# Fields a second of televisions that film is spread over, of its pictures two and three in turn.
_FIELD_RATES = (Fraction(60000, 1001), Fraction(60))
# So many frames do not lie on one grid by chance.
_ENOUGH_OTHERS = 10
# By how much of a frame rounded timestamps may miss a whole number of them.
_ROUNDING = Fraction(1, 10)


def fits_grid(times: Sequence[int], rate: Fraction, tick: Fraction) -> bool:
    """Return whether ascending `times` lie on places of a grid.

    Args:
        times: in ticks; the first one is place 0.
        rate: places a second.
        tick: unit of the timestamps in seconds, by which they may be rounded.
    """
    # Hours of video have hundreds of thousands of frames, so these are floats.
    step = float(tick * rate)
    tolerance = min(0.4, step + 0.05)
    places = ((time - times[0]) * step for time in times)
    return all(abs(place - round(place)) <= tolerance for place in places)


def choose_rate(
    times: Sequence[int], candidates: Sequence[Fraction], tick: Fraction
) -> tuple[Fraction, bool]:
    """Return the frame rate, and whether the time between frames varies.

    Args:
        times: ascending timestamps in ticks, of all frames or of the first ones.
        candidates: rates that the container and the codec announce.
        tick: unit of the timestamps in seconds.
    """
    sane = [rate for rate in candidates if 0 < rate <= MAX_RATE]
    if len(times) < 2 or times[-1] == times[0]:
        return (sane[0], False) if sane else (Fraction(25), True)
    seconds = (times[-1] - times[0]) * tick
    film = _film_rate(times, tick)
    if film is not None:
        return film, False
    holed = None
    for rate in dict.fromkeys([*sane, *USUAL_RATES]):
        places = round(seconds * rate) + 1
        if places < len(times) or not fits_grid(times, rate, tick):
            continue
        if places == len(times):
            return rate, False
        if holed is None and _steps_of_one(times, rate, tick) > _STEADY * (len(times) - 1):
            holed = rate
    return holed or _usual(min((len(times) - 1) / seconds, MAX_RATE)), True


def choose_grid(
    times: Sequence[int], candidates: Sequence[Fraction], tick: Fraction
) -> tuple[Fraction, bool, Fraction]:
    """Return the rate, whether the time between frames varies, and where the grid begins.

    It begins with the first frame, unless that one alone does not fit the others: muxers that
    do without edit lists make up for the delay of the sound by the length of the first frame.
    The grid is then that of the others, so that all of them lie on it.

    Args:
        times: ascending timestamps in ticks at which frames show, of all or of the first ones.
        candidates: rates that the container and the codec announce.
        tick: unit of the timestamps in seconds.

    Returns:
        The rate, whether it varies, and the ticks from the first frame to frame 0 of the grid.
    """
    rate, varies = choose_rate(times, candidates, tick)
    if varies and len(times) >= _ENOUGH_OTHERS:
        others, still_varies = choose_rate(times[1:], candidates, tick)
        if not still_varies:
            step = times[1] - times[0]
            # Rounded down, for it is the first frame that lasts too long.
            places = max(1, int(step * tick * others + _ROUNDING))
            return others, places > 1, step - places / (others * tick)
    return rate, varies, Fraction(0)


def _film_rate(times: Sequence[int], tick: Fraction) -> Fraction | None:
    """Return the rate of film of which a player shows fields twice; None where it is none.

    Its pictures last two fields and three in turn: at most a fifth of a frame from where a grid
    of their own rate has them, so none is lost on it, and none comes twice.
    """
    if len(times) < _ENOUGH_OTHERS:
        return None
    for rate in _FIELD_RATES:
        if fits_grid(times, rate, tick):
            step = float(tick * rate)
            places = [round((time - times[0]) * step) for time in times]
            steps = [b - a for a, b in pairwise(places)]
            if set(steps) == {2, 3} and abs(places[-1] - 2.5 * len(steps)) <= 1:
                return rate * Fraction(2, 5)
    return None


def _steps_of_one(times: Sequence[int], rate: Fraction, tick: Fraction) -> int:
    """Return how many frames come one place of the grid after the frame before."""
    step = float(tick * rate)
    return sum(round((b - a) * step) == 1 for a, b in pairwise(times))


def _usual(rate: Fraction) -> Fraction:
    """Return the usual rate within half a percent, else one with two decimals."""
    nearest = min(USUAL_RATES, key=lambda usual: abs(usual - rate))
    if abs(nearest - rate) <= rate / 200:
        return nearest
    return max(Fraction(round(rate * 100), 100), Fraction(1, 100))
