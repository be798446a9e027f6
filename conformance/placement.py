"""Where filters put a picture: which part of it is shown, and where in the frame. Pure.

So the command for a GPU is compared with the one for the CPU without either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

# Filters that move no pixel. One that is not known here fails the comparison, so that
# nothing is taken for granted of it.
STILL = {
    *("format", "setparams", "setsar", "sidedata", "hwupload_cuda", "hwdownload"),
    *("bwdif", "bwdif_cuda", "estdif", "w3fdif", "yadif", "yadif_cuda"),
    *("colorspace", "normalize", "premultiply", "tonemap", "unpremultiply"),
}
_SPLIT = re.compile(r":(?=(?:[^']*'[^']*')*[^']*$)")
_FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "floor": math.floor,
    # FFmpeg rounds halves away from zero.
    "round": lambda value: math.floor(value + 0.5),
    "trunc": math.trunc,
}


class UnknownFilter(ValueError):
    """A filter of which it is not known what it does with the picture."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture ends up.

    Attributes:
        shown: left, top, width and height of what is shown, as shares of the upright picture.
        area: left, top, width and height of it in the frame, in pixels.
        frame: width and height of the frame.
    """

    shown: tuple[Fraction, Fraction, Fraction, Fraction]
    area: tuple[int, int, int, int]
    frame: tuple[int, int]


def placement(filters: Sequence[str], width: int, height: int) -> Placement:
    """Return where filters put an upright picture of a size.

    Raises:
        UnknownFilter: one of them is not known.
    """
    frame = (width, height)
    left, top = 0, 0
    size = frame  # of the picture in the frame
    shown = (Fraction(0), Fraction(0), Fraction(1), Fraction(1))
    for text in filters:
        name, _, rest = text.partition("=")
        given = _options(rest)
        values = {"iw": frame[0], "ih": frame[1], "in_w": frame[0], "in_h": frame[1]}
        if name in STILL or (name == "zscale" and not {"w", "h"} & given.keys()):
            continue
        if name in ("scale", "scale_cuda", "zscale"):
            wide, high = _two(given, ("w", "0"), ("h", "1"), values, frame)
            left, top = left * wide // frame[0], top * high // frame[1]
            size = (size[0] * wide // frame[0], size[1] * high // frame[1])
            frame = (wide, high)
        elif name in ("pad", "pad_cuda"):
            wide, high = _two(given, ("w", "0"), ("h", "1"), values, frame)
            values |= {"ow": wide, "oh": high}
            x, y = _two(given, ("x", "2"), ("y", "3"), values, (0, 0))
            left, top, frame = left + x, top + y, (wide, high)
        elif name == "crop":
            wide, high = _two(given, ("w", "0"), ("h", "1"), values, frame)
            values |= {"ow": wide, "oh": high}
            middle = ((frame[0] - wide) // 2, (frame[1] - high) // 2)
            x, y = _two(given, ("x", "2"), ("y", "3"), values, middle)
            shown = _cut(shown, frame, (x, y, wide, high))
            frame = size = (wide, high)
        else:
            raise UnknownFilter(f"what does {name} do with the picture?")
    return Placement(shown, (left, top, *size), frame)


def _cut(
    shown: tuple[Fraction, ...], frame: tuple[int, int], area: tuple[int, int, int, int]
) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    left, top, width, height = shown
    x, y, wide, high = area
    return (
        left + width * Fraction(x, frame[0]),
        top + height * Fraction(y, frame[1]),
        width * Fraction(wide, frame[0]),
        height * Fraction(high, frame[1]),
    )


def _options(text: str) -> dict[str, str]:
    """Return a filter's options by name; those without one by their place."""
    found = {}
    for place, option in enumerate(_SPLIT.split(text) if text else []):
        name, equals, value = option.partition("=")
        key, value = (name, value) if equals and name.isidentifier() else (str(place), option)
        found[key] = value.strip("'")
    return found


def _two(
    given: Mapping[str, str],
    first: tuple[str, str],
    second: tuple[str, str],
    values: Mapping[str, int],
    default: tuple[int, int],
) -> tuple[int, int]:
    """Return two options as whole numbers, each by either of its names."""
    found = []
    for names, otherwise in zip((first, second), default, strict=True):
        text = next((given[name] for name in names if name in given), None)
        found.append(otherwise if text is None else _value(text, values))
    return found[0], found[1]


def _value(text: str, values: Mapping[str, int]) -> int:
    """Return what an expression of our own commands comes to."""
    if not re.fullmatch(r"[\w\s().,+*/-]+", text):
        raise UnknownFilter(f"what does {text} come to?")
    return int(eval(text, {"__builtins__": {}}, {**_FUNCTIONS, **values}))
