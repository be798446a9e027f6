"""What a player shows of a file: every picture in colour, and when it is shown."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.media.corner_marks import Corners, Image, luma_of, read_corners, undone
from tests.media.frame_codes import UnreadableFrame, ffmpeg_exe, picture_area, read_frame

# By their codes in ITU-T H.273, as FFmpeg's `scale` names them.
_MATRICES = {1: "bt709", 5: "smpte170m", 6: "smpte170m", 9: "bt2020nc", 10: "bt2020nc"}
_UNTAGGED = 2
_FULL = 2  # FFmpeg's own code


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read from one frame.

    Attributes:
        number: that it carries, whichever way up it is; None where that cannot be read.
        corners: None where there is no picture.
        box: left, top, width and height of the picture without padding.
    """

    number: int | None
    corners: Corners | None
    box: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Shown:
    """A file's pictures.

    Attributes:
        times: seconds on the file's clock at which each is shown.
        rate: frames per second that the container announces.
        square: whether pixels are.
    """

    frames: tuple[Seen, ...]
    times: tuple[Fraction, ...]
    rate: Fraction
    size: tuple[int, int]
    square: bool


def read_back(path: Path) -> Shown:
    """Reads all pictures of a file, by what it says of its colours."""
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        tick = video.time_base or Fraction(1)
        times = sorted(p.pts * tick for p in file.demux(video) if p.pts is not None)
        file.seek(0)
        first = next(file.decode(video))
        square = video.sample_aspect_ratio in (None, 0, 1)
        rate = video.average_rate or Fraction(0)
        size = (first.width, first.height)
        filters = rgb_filters(first.colorspace, first.color_range, *size)
    frames = tuple(read_picture(rgb) for rgb in _pictures(path, filters))
    return Shown(frames, tuple(times), rate, size, square)


def read_picture(rgb: Image) -> Seen:
    """Reads a picture that carries a number and a colour in every corner."""
    luma = luma_of(rgb)
    try:
        left, top, width, height = picture_area(luma)
    except UnreadableFrame:
        return Seen(None, None)
    inside = (slice(top, top + height), slice(left, left + width))
    corners = read_corners(rgb[inside])
    picture = luma[inside]
    if corners.orientation != "?":
        picture = undone(picture, corners.orientation)
    try:
        number = read_frame(picture).number
    except UnreadableFrame:
        number = None
    return Seen(number, corners, (left, top, width, height))


def rgb_filters(matrix: int, colour_range: int, width: int, height: int) -> str:
    """Returns the filters that show a picture as players do.

    Where nothing is said of its colours, they go by its size.
    """
    if matrix == _UNTAGGED:
        name = "bt709" if width >= 1280 or height > 576 else "smpte170m"
    else:
        name = _MATRICES[matrix]
    told = "pc" if colour_range == _FULL else "tv"
    flags = "bicubic+accurate_rnd+full_chroma_int"
    return f"scale=in_color_matrix={name}:in_range={told}:out_range=pc:flags={flags},format=rgb24"


def _pictures(path: Path, filters: str) -> Iterator[Image]:
    arguments = [ffmpeg_exe(), "-nostdin", "-v", "error", "-i", str(path), "-map", "0:v:0"]
    arguments += ["-vf", filters, "-fps_mode", "passthrough", "-enc_time_base:v", "demux"]
    arguments += ["-f", "image2pipe", "-c:v", "ppm", "pipe:1"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.readline() == b"P6\n":
            width, height = (int(word) for word in process.stdout.readline().split())
            process.stdout.readline()
            data = process.stdout.read(width * height * 3)
            yield np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)
    assert process.returncode == 0
