"""A colour in every corner of a frame: which way up it is, and whether colours are right.

The four corner cells of the grey frame that `frame_codes` draws are painted, each in a colour
of its own. All are brighter than what is taken for padding, so that a frame without them and
one with them are found the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.media.colour import SRGB_TAGS, delta_e, lab_of, light_of

Image = npt.NDArray[np.uint8]

# sRGB, in the order top left, top right, bottom left, bottom right. Saturated enough that the
# matrix of BT.601 for that of BT.709, or a wrong range, is seen as more than any codec's loss.
COLOURS = ((236, 96, 84), (84, 204, 96), (104, 136, 240), (236, 212, 72))
# Primaries and curve that go with a matrix.
_TAGS = {
    "bt709": ("bt709", "bt709"),
    "smpte170m": ("smpte170m", "smpte170m"),
    "bt2020nc": ("bt2020", "bt2020-10"),
}
_PLACES = ((0, 0), (0, 9), (4, 0), (4, 9))
UPRIGHT = "upright"
# What may have been done to a picture: whether it was mirrored, then turned so many quarters
# clockwise.
ORIENTATIONS = {
    UPRIGHT: (False, 0),
    "turned 90°": (False, 1),
    "turned 180°": (False, 2),
    "turned 270°": (False, 3),
    "mirrored": (True, 0),
    "mirrored and turned 90°": (True, 1),
    "mirrored and turned 180°": (True, 2),
    "mirrored and turned 270°": (True, 3),
}
# The four colours are at least 27 apart: nearer than half of that it is one of them, and no
# nearer than all of it it may be any other.
_ALIKE = 13.0
_SAME_ORDER = 27.0


@dataclass(frozen=True, slots=True)
class Stored:
    """How pictures drawn in sRGB are stored.

    Attributes:
        matrix: as FFmpeg's `scale` names it; `bt709`, `smpte170m`, `bt2020nc`.
        full_range: whether black is 0, not 16.
        tagged: whether the file says so.
    """

    matrix: str = "bt709"
    full_range: bool = False
    tagged: bool = True

    def filters(self, pixel_format: str) -> str:
        """Returns the filters that make RGB frames so, for FFmpeg."""
        colour_range = "pc" if self.full_range else "tv"
        told = (self.matrix, *_TAGS[self.matrix], colour_range) if self.tagged else ("unknown",) * 4
        names = ("colorspace", "color_primaries", "color_trc", "range")
        tags = ":".join(f"{name}={tag}" for name, tag in zip(names, told, strict=True))
        return (
            f"scale=in_range=pc:out_color_matrix={self.matrix}:out_range={colour_range}"
            f":flags=bicubic+accurate_rnd+full_chroma_int,format={pixel_format},setparams={tags}"
        )


@dataclass(frozen=True, slots=True)
class Corners:
    """What the corners of a frame say.

    Attributes:
        orientation: `upright`, or what was done to the picture, such as `turned 90°` (clockwise)
            or `mirrored and turned 90°`; `?` where the colours are not in any such order.
        delta_e: by how much each colour is off, in the order of COLOURS.
    """

    orientation: str
    delta_e: tuple[float, ...]


def painted(luma: Image) -> Image:
    """Returns an RGB picture, height × width × 3, of one in limited-range luma, with corners."""
    levels = np.clip((luma.astype(np.float32) - 16) * 255 / 219, 0, 255)
    rgb = np.repeat(np.rint(levels).astype(np.uint8)[:, :, None], 3, axis=2)
    height, width = luma.shape
    # The cells of the grid of 5 × 10 that `draw_frame` uses, by its own rounding.
    rows, columns = np.arange(height) * 5 // height, np.arange(width) * 10 // width
    for colour, (row, column) in zip(COLOURS, _PLACES, strict=True):
        rgb[np.ix_(rows == row, columns == column)] = colour
    return rgb


def luma_of(rgb: Image) -> Image:
    """Returns the brightness of an RGB picture as limited-range luma, whatever its colours."""
    weighted = rgb.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
    return np.rint(16 + weighted * 219 / 255).astype(np.uint8)


def read_corners(rgb: Image) -> Corners:
    """Reads the corners of a picture without padding, whichever way up it is."""
    found = _offs(rgb)
    if max(found) <= _ALIKE:
        return Corners(UPRIGHT, found)
    ways = {name: _offs(undone(rgb, name)) for name in ORIENTATIONS}
    best = min(ways, key=lambda name: max(ways[name]))
    # Colours that are wrong are not taken for a picture that is turned.
    if best == UPRIGHT or max(ways[best]) > _ALIKE:
        return Corners(UPRIGHT if max(found) <= _SAME_ORDER else "?", found)
    return Corners(best, ways[best])


def look_apart(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Returns ΔE2000 between two sRGB colours, each component 0 to 255."""
    return float(delta_e(lab_of(light_of(one, SRGB_TAGS)), lab_of(light_of(other, SRGB_TAGS))))


def undone(picture: Image, orientation: str) -> Image:
    """Returns a picture upright that is seen as `orientation` says."""
    mirrored, quarters = ORIENTATIONS[orientation]
    upright = np.rot90(picture, quarters)
    return np.fliplr(upright) if mirrored else upright


def _offs(rgb: Image) -> tuple[float, ...]:
    """Returns by how much each corner's colour is off, the picture taken for upright."""
    height, width = rgb.shape[:2]
    offs = []
    for colour, (row, column) in zip(COLOURS, _PLACES, strict=True):
        # The middle half of the cell, where neighbours do not bleed in.
        y0, y1 = (int(height * (row + m) / 5) for m in (0.25, 0.75))
        x0, x1 = (int(width * (column + m) / 10) for m in (0.25, 0.75))
        mean = rgb[y0 : y1 + 1, x0 : x1 + 1].mean(axis=(0, 1))
        offs.append(look_apart(mean, colour))
    return tuple(offs)
