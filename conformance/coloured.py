"""What patches of known colours look like in an output. Reads the file; the check is pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.encoder.formats.colour_names import MATRICES, PRIMARIES, TRANSFERS
from tests.media.colour import HDR_WHITE, Array, Tags, delta_e, lab_of, light_of
from tests.media.patches import colour_box, read_values, tags_of
from tests.media.recipes.recipe import Looks

# Where black must be seen, no more than that; anywhere else it is for the case to say.
BLACK = 1.0
# How far Cb and Cr of a grey may be off, in steps of 8 bits.
GREY = 0.5
HUE_DEGREES = 3
# Up to how many nits a scale of greys is as it was, and how far its signal may be off.
_KEPT_NITS, _SIGNAL = 61.5, 0.006
_PEAK_NITS, _PEAK_SIGNAL = 1000, (0.95, 1.005)
# Of ISO/IEC 14496-12 and Dolby Vision: what is said of HDR alone.
_OF_HDR = (b"mdcv", b"clli", b"dvcC", b"dvvC", b"dvhe", b"dvh1")


@dataclass(frozen=True, slots=True, eq=False)
class Coloured:
    """Patches of a file.

    Attributes:
        values: Y, Cb and Cr of each, 8 bits.
        tags: what its pictures say of them.
        boxed: codes of primaries, transfer, matrix and full range that its container says.
        of_hdr: what it says that is said of HDR alone.
    """

    values: Array
    tags: Tags
    boxed: tuple[int, int, int, int]
    of_hdr: tuple[str, ...]

    @property
    def light(self) -> Array:
        """What they look like, by what the file says of itself."""
        return light_of(self.values, self.tags)


def read_coloured(path: Path) -> Coloured:
    """Read the patches of an mp4 of 4:2:0."""
    content = path.read_bytes()
    left = tuple(name.decode() for name in _OF_HDR if name in content)
    return Coloured(read_values(path), tags_of(path), colour_box(path), left)


def worst_patch(looks: Looks, found: Coloured) -> float:
    """Return the largest ΔE2000 of the patches that must have their colour."""
    return float(_far(looks, found)[looks.alike].max())


def patch_problems(looks: Looks, found: Coloured) -> list[str]:
    """Return what is wrong with patches, but for how far their colours are off at the most."""
    problems = [f"says {name}, which is said of HDR" for name in found.of_hdr]
    if found.boxed != _codes(found.tags):
        problems.append(f"its colours are {found.boxed} by the container, {found.tags} by the rest")
    grey = np.ptp(looks.light, axis=1) < 1e-9
    if grey.any() and (off := np.abs(found.values[grey, 1:] - 128).max()) > GREY:
        problems.append(f"greys are off by {off:.1f} in Cb or Cr")
    black = looks.light.max(axis=1) < 1e-9
    if black.any() and (off := _far(looks, found)[black].max()) > BLACK:
        problems.append(f"black is off by ΔE2000 {off:.1f}")
    turned = np.abs(_hue(looks.light) - _hue(found.light))[looks.hues]
    turned = np.minimum(turned, 360 - turned)
    if turned.size and turned.max() > HUE_DEGREES:
        problems.append(f"hues are turned by {turned.max():.0f}°")
    if looks.white is not None:
        problems += _scale_problems(looks.light[:, 1] * HDR_WHITE, found, looks.white)
    return problems


def _scale_problems(nits: Array, found: Coloured, white: tuple[float, float]) -> list[str]:
    """Return what is wrong with greys of growing light that were mapped to SDR."""
    signal = (found.values[:, 0] - 16) / 219
    problems = []
    if not (np.diff(signal) > 0).all():
        problems.append("of two greys the lighter one is not lighter")
    # White keeps room above it, of which 1,000 nits take nearly all.
    for level, (least, most) in ((HDR_WHITE, white), (_PEAK_NITS, _PEAK_SIGNAL)):
        [there] = signal[np.abs(nits - level) < 1e-6]
        if not least <= there <= most:
            problems.append(f"{level} nits have the signal {there:.3f}, not {least} to {most}")
    # Mid tones are as bright beside white as they were.
    kept = nits < _KEPT_NITS
    off = np.abs(signal[kept] - (nits[kept] / HDR_WHITE) ** (1 / 2.4)).max()
    if off > _SIGNAL:
        problems.append(f"mid tones are off by a signal of {off:.3f}")
    return problems


def _far(looks: Looks, found: Coloured) -> Array:
    return delta_e(lab_of(looks.light), lab_of(found.light))


def _hue(light: Array) -> Array:
    lab = lab_of(light)
    return np.degrees(np.arctan2(lab[:, 2], lab[:, 1]))


def _codes(tags: Tags) -> tuple[int, int, int, int]:
    """Return what tags are in ITU-T H.273."""
    tables = ((PRIMARIES, tags.primaries), (TRANSFERS, tags.transfer), (MATRICES, tags.matrix))
    primaries, transfer, matrix = (
        next((code for code, name in table.items() if name == tag), 2) for table, tag in tables
    )
    return primaries, transfer, matrix, int(tags.range == "pc")
