"""Whether a watermark is on every frame of an output."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from tests.media.recipes.recipe import Box, Colour

# What 4:2:0 and the loss of a codec do to a small patch.
_TOLERANCE = 20


def read_mark(path: Path, box: Box) -> tuple[Colour, ...]:
    """Return of each frame the colour in the middle of a box."""
    left, top, width, height = box
    rows, columns = slice(top + 2, top + height - 2), slice(left + 2, left + width - 2)
    with av.open(str(path)) as file:
        pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    means = (np.asarray(picture[rows, columns]).mean(axis=(0, 1)) for picture in pictures)
    return tuple((round(red), round(green), round(blue)) for red, green, blue in means)


def mark_problems(wanted: Colour, seen: tuple[Colour, ...]) -> list[str]:
    """Return whether the watermark is on every frame."""
    for frame, colour in enumerate(seen):
        if any(abs(a - b) > _TOLERANCE for a, b in zip(colour, wanted, strict=True)):
            return [f"frame {frame} has {colour} instead of {wanted} where the watermark is"]
    return [] if seen else ["no frames"]
