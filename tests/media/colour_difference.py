"""How far apart two colours look: CIEDE2000, of 8-bit sRGB. Pure.

Formula and check values: Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula:
implementation notes, supplementary test data, and mathematical observations", 2005.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import atan2, cos, degrees, exp, hypot, radians, sin, sqrt

Triple = tuple[float, float, float]

# sRGB's primaries and its white, D65, in XYZ (IEC 61966-2-1).
_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_WHITE = (0.95047, 1.0, 1.08883)
_FAR = 25.0**7


def lab_of(rgb: Sequence[float]) -> Triple:
    """Returns CIE L*a*b* of an sRGB colour, each component 0 to 255."""
    linear = [_linear(min(max(value / 255, 0.0), 1.0)) for value in rgb]
    x, y, z = (
        _cube_root(sum(weight * value for weight, value in zip(row, linear, strict=True)) / white)
        for row, white in zip(_TO_XYZ, _WHITE, strict=True)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def delta_e(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns ΔE2000 between two sRGB colours, each component 0 to 255."""
    return delta_e_2000(lab_of(one), lab_of(other))


def delta_e_2000(one: Triple, other: Triple) -> float:
    """Returns ΔE2000 between two colours in L*a*b*; about 1 can just be seen, side by side."""
    l1, a1, b1 = one
    l2, a2, b2 = other
    chroma7 = ((hypot(a1, b1) + hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * sqrt(chroma7 / (chroma7 + _FAR))
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = hypot(a1, b1), hypot(a2, b2)
    h1, h2 = _hue(a1, b1), _hue(a2, b2)
    grey = c1 * c2 == 0
    turn = 0.0 if grey else (h2 - h1 + 180) % 360 - 180
    if turn == -180 and h2 > h1:
        turn = 180.0
    d_hue = 2 * sqrt(c1 * c2) * sin(radians(turn / 2))
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = h1 + h2 if grey else _middle(h1, h2)
    t = (
        1
        - 0.17 * cos(radians(hue - 30))
        + 0.24 * cos(radians(2 * hue))
        + 0.32 * cos(radians(3 * hue + 6))
        - 0.20 * cos(radians(4 * hue - 63))
    )
    rotation = 60 * exp(-(((hue - 275) / 25) ** 2))
    twist = -2 * sqrt(chroma**7 / (chroma**7 + _FAR)) * sin(radians(rotation))
    off = (lightness - 50) ** 2
    light = (l2 - l1) / (1 + 0.015 * off / sqrt(20 + off))
    colour = (c2 - c1) / (1 + 0.045 * chroma)
    tint = d_hue / (1 + 0.015 * chroma * t)
    return sqrt(max(0.0, light**2 + colour**2 + tint**2 + twist * colour * tint))


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _cube_root(value: float) -> float:
    return value ** (1 / 3) if value > (6 / 29) ** 3 else value * (29 / 6) ** 2 / 3 + 4 / 29


def _hue(a: float, b: float) -> float:
    return degrees(atan2(b, a)) % 360 if a or b else 0.0


def _middle(h1: float, h2: float) -> float:
    """Returns the hue in the middle of the shorter way between two, in degrees."""
    if abs(h1 - h2) <= 180:
        return (h1 + h2) / 2
    return (h1 + h2 + 360) / 2 if h1 + h2 < 360 else (h1 + h2 - 360) / 2
