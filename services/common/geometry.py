"""How large the pictures of an output are, and which part of the source they show. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from videoexport.v1 import export_pb2 as pb

SIZES = {
    pb.RESOLUTION_480P: (854, 480),
    pb.RESOLUTION_720P: (1280, 720),
    pb.RESOLUTION_1080P: (1920, 1080),
    pb.RESOLUTION_1440P: (2560, 1440),
    pb.RESOLUTION_2160P: (3840, 2160),
}
# Of a source, and of what is made of it.
MAX_SIDE = 8192


@dataclass(frozen=True, slots=True)
class Frame:
    """The pictures of an output: how large, in pixels, and how a source's picture is fitted."""

    resolution: pb.Resolution.ValueType
    width: int
    height: int
    fit: pb.Fit.ValueType


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of a picture, in pixels."""

    width: int
    height: int
    left: int
    top: int


def frame_of(video: pb.VideoStream, settings: pb.ExportSettings) -> Frame:
    """Return what the settings of an export come to for a source."""
    _, lines = upright_size(video)
    default = pb.RESOLUTION_720P if lines <= 720 else pb.RESOLUTION_1080P
    if settings.quality == pb.QUALITY_SOURCE:
        default = pb.RESOLUTION_SOURCE
    resolution = settings.resolution or default
    fit = settings.fit or pb.FIT_PAD
    if resolution != pb.RESOLUTION_SOURCE:
        return Frame(resolution, *SIZES[resolution], fit)
    width, height = _shown_size(video)
    # Of the source's own shape but for an odd row or column, which no player misses; all else
    # would draw every picture anew for it.
    return Frame(resolution, _even_below(width), _even_below(height), pb.FIT_CROP)


def upright_size(video: pb.VideoStream) -> tuple[int, int]:
    """Return width and height of a source's pictures as they are turned for display."""
    return (video.height, video.width) if _turned(video) else (video.width, video.height)


def upright_sar(video: pb.VideoStream) -> Fraction:
    """Return the width of a pixel over its height, once turned for display."""
    ratio = video.sample_aspect_ratio
    if ratio.numerator <= 0 or ratio.denominator <= 0:
        return Fraction(1)
    sar = Fraction(ratio.numerator, ratio.denominator)
    return 1 / sar if _turned(video) else sar


def fitted_area(video: pb.VideoStream, width: int, height: int) -> Area:
    """Return where the picture goes with FIT_PAD: as large as fits, its shape kept, centred.

    Sizes and offsets are even, because 4:2:0 shares chroma between pairs of pixels.
    """
    upright_width, upright_height = upright_size(video)
    aspect = Fraction(upright_width, upright_height) * upright_sar(video)
    fitted_width = min(width, _even(height * aspect))
    fitted_height = min(height, _even(width / aspect))
    left, top = (width - fitted_width) // 4 * 2, (height - fitted_height) // 4 * 2
    return Area(fitted_width, fitted_height, left, top)


def cropped_area(video: pb.VideoStream, width: int, height: int) -> Area:
    """Return what of the upright picture is shown with FIT_CROP: its middle, in the frame's shape.

    Cut before it is scaled: the rest of a picture of 8192 × 16 would be scaled to 368,640 × 720.
    """
    upright_width, upright_height = upright_size(video)
    aspect = Fraction(width, height) / upright_sar(video)
    shown_width = min(_even_below(Fraction(upright_width)), _even(upright_height * aspect))
    shown_height = min(_even_below(Fraction(upright_height)), _even(upright_width / aspect))
    left, top = (upright_width - shown_width) // 4 * 2, (upright_height - shown_height) // 4 * 2
    return Area(shown_width, shown_height, left, top)


def nearest_resolution(width: int, height: int) -> tuple[pb.Resolution.ValueType, float]:
    """Return the named size that is nearest in pixels, and how many times its pixels these are.

    What is measured of one is good for the other in proportion.
    """
    pixels = width * height

    def distance(name: pb.Resolution.ValueType) -> float:
        return abs(math.log(pixels / math.prod(SIZES[name])))

    nearest = min(SIZES, key=distance)
    return nearest, pixels / math.prod(SIZES[nearest])


def _shown_size(video: pb.VideoStream) -> tuple[Fraction, Fraction]:
    """Return the size of a source's pictures with square pixels; no side loses any."""
    width, height = map(Fraction, upright_size(video))
    sar = upright_sar(video)
    if sar > 1:
        width *= sar
    else:
        height /= sar
    shrunk = min(Fraction(1), MAX_SIDE / max(width, height))
    return width * shrunk, height * shrunk


def _turned(video: pb.VideoStream) -> bool:
    return video.rotation in (90, 270)


def _even(length: Fraction) -> int:
    # Halves away from zero, as FFmpeg's `round` does.
    return max(2, math.floor(length / 2 + Fraction(1, 2)) * 2)


def _even_below(length: Fraction) -> int:
    return max(2, int(length) // 2 * 2)
