"""Colours as light: what coded values look like on a screen, and how far two colours are apart.

Written from the standards alone, so that what FFmpeg makes of a colour can be judged by it:
ITU-R BT.709, BT.601, BT.2020, BT.1886, BT.2100; IEC 61966-2-1; SMPTE RP 431-2, EG 432-1.
Light is an array whose last axis is red, green, blue; 1.0 is SDR's white.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_D65, _DCI = (0.3127, 0.3290), (0.314, 0.351)
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
# By FFmpeg's names: x and y of red, green and blue, and of white.
_PRIMARIES = {
    "bt709": (((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)), _D65),
    "bt470bg": (((0.640, 0.330), (0.290, 0.600), (0.150, 0.060)), _D65),
    "smpte170m": (((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), _D65),
    "bt2020": (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), _D65),
    "smpte431": (_P3, _DCI),
    "smpte432": (_P3, _D65),
}
# What red and blue weigh in luma.
_LUMA = {
    "bt709": (0.2126, 0.0722),
    "bt470bg": (0.299, 0.114),
    "smpte170m": (0.299, 0.114),
    "bt2020nc": (0.2627, 0.0593),
}
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
HDR_WHITE = 203  # nits of 1.0 where the transfer is PQ or HLG
_HLG_PEAK, _HLG_GAMMA = 1000, 1.2


@dataclass(frozen=True, slots=True)
class Tags:
    """What values mean, by FFmpeg's names."""

    primaries: str = "bt709"
    transfer: str = "bt709"
    matrix: str = "bt709"
    range: str = "tv"


SRGB_TAGS = Tags(transfer="iec61966-2-1", matrix="gbr", range="pc")


def coded(light: Array, tags: Tags, depth: int) -> npt.NDArray[np.uint16]:
    """Return the values that stand for light in BT.709's primaries: Y, Cb, Cr or R, G, B."""
    light = light @ (np.linalg.inv(_to_xyz(tags.primaries)) @ _to_xyz("bt709")).T
    signal = _to_signal(light, tags)
    scale = 1 << (depth - 8)
    offset, luma, chroma = _levels(tags.range, depth)
    if tags.matrix == "gbr":
        values = signal * luma + offset
    else:
        red, blue = _LUMA[tags.matrix]
        y = signal @ (red, 1 - red - blue, blue)
        cb, cr = (signal[..., 2] - y) / (2 - 2 * blue), (signal[..., 0] - y) / (2 - 2 * red)
        values = np.stack(
            [y * luma + offset, cb * chroma + 128 * scale, cr * chroma + 128 * scale], -1
        )
    return np.round(values).clip(0, (1 << depth) - 1).astype(np.uint16)


def light_of(values: npt.ArrayLike, tags: Tags, depth: int = 8) -> Array:
    """Return the light in BT.709's primaries that Y, Cb, Cr or R, G, B stand for."""
    values = np.asarray(values, dtype=float)
    offset, luma, chroma = _levels(tags.range, depth)
    if tags.matrix == "gbr":
        signal = (values - offset) / luma
    else:
        red, blue = _LUMA[tags.matrix]
        y = (values[..., 0] - offset) / luma
        cb, cr = np.moveaxis((values[..., 1:] - (128 << (depth - 8))) / chroma, -1, 0)
        r, b = y + (2 - 2 * red) * cr, y + (2 - 2 * blue) * cb
        signal = np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], -1)
    light = _to_light(signal, tags)
    return light @ (np.linalg.inv(_to_xyz("bt709")) @ _to_xyz(tags.primaries)).T


def lab_of(light: Array) -> Array:
    """Return CIE L*a*b* of light in BT.709's primaries, beside SDR's white."""
    xyz = light @ _to_xyz("bt709").T / _to_xyz("bt709").sum(axis=1)
    small = xyz * (29 / 6) ** 2 / 3 + 4 / 29
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), small)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def delta_e(one: Array, other: Array) -> Array:
    """Return CIEDE2000 of colours in L*a*b* (Sharma, Wu and Dalal 2005)."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    mean_c = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 1.5 - np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7)) / 2
    c1, c2 = np.hypot(g * a1, b1), np.hypot(g * a2, b2)
    h1, h2 = np.arctan2(b1, g * a1) % (2 * np.pi), np.arctan2(b2, g * a2) % (2 * np.pi)
    grey = c1 * c2 == 0
    turn = np.where(grey, 0, h2 - h1)
    turn -= np.where(np.abs(turn) > np.pi + 1e-9, 2 * np.pi * np.sign(turn), 0)
    mean_h = np.where(grey, h1 + h2, h1 + turn / 2)
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * np.cos(mean_h - np.radians(30))
        + 0.24 * np.cos(2 * mean_h)
        + 0.32 * np.cos(3 * mean_h + np.radians(6))
        - 0.20 * np.cos(4 * mean_h - np.radians(63))
    )
    degrees = np.degrees(mean_h) % 360
    bend = np.radians(60 * np.exp(-(((degrees - 275) / 25) ** 2)))
    dl = (l2 - l1) / (1 + 0.015 * (mean_l - 50) ** 2 / np.sqrt(20 + (mean_l - 50) ** 2))
    dc = (c2 - c1) / (1 + 0.045 * mean_c)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(turn / 2) / (1 + 0.015 * mean_c * t)
    blue = -2 * np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7)) * np.sin(bend)
    return np.asarray(np.sqrt(dl**2 + dc**2 + dh**2 + blue * dc * dh))


def _levels(colour_range: str, depth: int) -> tuple[int, int, int]:
    """Return the value of black, and how many values lie up to white and between chromas."""
    scale = 1 << (depth - 8)
    if colour_range == "tv":
        return 16 * scale, 219 * scale, 224 * scale
    return 0, (1 << depth) - 1, (1 << depth) - 1


def _to_xyz(primaries: str) -> Array:
    """Return the matrix from light to CIE XYZ beside D65."""
    corners, white = _PRIMARIES[primaries]
    xyz = np.array([(x / y, 1, (1 - x - y) / y) for x, y in (*corners, white, _D65)]).T
    matrix: Array = xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])
    seen, d65 = _BRADFORD @ xyz[:, 3], _BRADFORD @ xyz[:, 4]
    adapted: Array = np.linalg.inv(_BRADFORD) @ np.diag(d65 / seen) @ _BRADFORD @ matrix
    return adapted


def _to_light(signal: Array, tags: Tags) -> Array:
    if tags.transfer == "iec61966-2-1":
        curve = ((np.maximum(signal, 0) + 0.055) / 1.055) ** 2.4
        return np.where(signal <= 0.04045, signal / 12.92, curve)
    # What is coded by the curve of BT.709 is shown by the one of BT.1886.
    return np.asarray(np.maximum(signal, 0) ** 2.4)


def _to_signal(light: Array, tags: Tags) -> Array:
    light = np.maximum(light, 0)
    if tags.transfer == "iec61966-2-1":
        return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    if tags.transfer == "smpte2084":
        y = (light * HDR_WHITE / 10_000) ** 0.1593017578125
        return np.asarray(((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375)
    if tags.transfer == "arib-std-b67":
        shown = light * HDR_WHITE / _HLG_PEAK
        luminance = np.maximum(shown @ (0.2627, 0.6780, 0.0593), 1e-9)[..., None]
        scene = shown * luminance ** ((1 - _HLG_GAMMA) / _HLG_GAMMA)
        bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)
    return np.asarray(light ** (1 / 2.4))
