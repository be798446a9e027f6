"""Clips of coloured patches in any format, and what an export makes of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from services.encoder.formats.colour_names import MATRICES, PRIMARIES, RANGES, TRANSFERS
from tests.media.colour import SRGB_TAGS, Array, Tags, coded, light_of
from tests.media.frame_codes import ffmpeg_exe

X265 = (
    *("-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1"),
    *("-x265-params", "log-level=none:lossless=1"),
)
COLUMNS, ROWS = 6, 4
# Of a patch in the source; so large that nothing of its neighbours reaches its middle.
SIDE = 24
WIDTH, HEIGHT = COLUMNS * SIDE, ROWS * SIDE
FRAMES = 5

# sRGB: primaries, secondaries, faces, foliage, sky, and greys from black to white.
_SRGB = (
    *("ff0000", "00ff00", "0000ff", "00ffff", "ff00ff", "ffff00"),
    *("735244", "c29682", "627a9d", "576c43", "8580b1", "67bdaa"),
    *("d67e2c", "505ba6", "c15a63", "5e3c6c", "9dbc40", "e0a32e"),
    *("000000", "343434", "797979", "a0a0a0", "c8c8c8", "ffffff"),
)
SRGB = light_of(
    [[int(text[at : at + 2], 16) for at in (0, 2, 4)] for text in _SRGB],
    SRGB_TAGS,
).clip(0, 1)
GREYS = slice(18, 24)


def raw_frame(light: Array, tags: Tags, pixel_format: str, alpha: Array | None = None) -> bytes:
    """Return a picture of patches as FFmpeg's raw video of a planar format.

    Args:
        alpha: by patch, how little can be seen through it, 0 to 1.
    """
    found = re.search(r"(?<=p)(\d\d)le|(?<=gray)(\d\d)le", pixel_format)
    depth = int(found[1] or found[2]) if found else 8
    kind = "<u2" if depth > 8 else np.uint8
    values = coded(light, tags, depth)
    planes = (
        [values[..., 0]] if pixel_format.startswith("gray") else list(np.moveaxis(values, -1, 0))
    )
    if pixel_format.startswith("gbr"):
        planes = [planes[1], planes[2], planes[0]]
    if alpha is not None:
        planes.append(np.round(alpha * ((1 << depth) - 1)).astype(np.uint16))
    wide, high = {"420": (2, 2), "422": (2, 1)}.get(
        "".join(re.findall(r"yuv[aj]?(\d{3})", pixel_format)), (1, 1)
    )
    raw = b""
    for number, plane in enumerate(planes):
        across, down = (wide, high) if number in (1, 2) else (1, 1)
        grid = plane.reshape(ROWS, COLUMNS).repeat(SIDE // down, 0).repeat(SIDE // across, 1)
        raw += grid.astype(kind).tobytes()
    return raw


def shown(light: Array, tags: Tags) -> Array:
    """Return what is left of light when it is coded: all that its primaries can make."""
    return light_of(coded(light, tags, 12), tags, 12).clip(0, 1)


def make_patches(
    path: Path,
    light: Array,
    tags: Tags,
    pixel_format: str,
    *,
    codec: Sequence[str] = (),
    told: bool = True,
    alpha: Array | None = None,
    rate: int = 25,
) -> Path:
    """Make a clip of light in BT.709's primaries.

    Args:
        codec: options of FFmpeg's; one that loses nothing if none are given.
        told: whether the clip says what its values mean.
    """
    if not codec:
        # FFV1 has no full range of its own but of RGB's.
        codec = ("-c:v", "ffv1") if tags.range == "tv" or tags.matrix == "gbr" else X265
    raw = raw_frame(light, tags, pixel_format, alpha)
    names = f"range={tags.range}:color_primaries={tags.primaries}:color_trc={tags.transfer}"
    names += f":colorspace={tags.matrix}"
    if not told:
        names = f"range={tags.range}"
    command = [ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", pixel_format]
    command += ["-s", f"{WIDTH}x{HEIGHT}", "-r", str(rate), "-i", "-"]
    command += ["-vf", f"setparams={names}", *codec, str(path)]
    subprocess.run(command, input=raw * FRAMES, check=True, timeout=60)
    found = tags_of(path)
    # Where a codec does not know of a range, FFmpeg converts.
    assert found.range in (tags.range, "")
    assert told or not (found.primaries or found.transfer or found.matrix)
    return path


def tags_of(path: Path) -> Tags:
    """Return what the pictures of a file say of themselves."""
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
    return Tags(
        PRIMARIES.get(frame.color_primaries, ""),
        TRANSFERS.get(frame.color_trc, ""),
        MATRICES.get(frame.colorspace, ""),
        RANGES.get(frame.color_range, ""),
    )


def read_values(path: Path, depth: int = 8) -> npt.NDArray[np.float64]:
    """Return Y, Cb and Cr in the middle of every patch of a file of 4:2:0.

    Args:
        depth: 8 bits, or 10.
    """
    kind, pixels = (np.uint8, "yuv420p") if depth == 8 else ("<u2", "yuv420p10le")
    with av.open(str(path)) as file:
        size = (file.streams.video[0].width, file.streams.video[0].height)
    command = [ffmpeg_exe(), "-v", "error", "-i", str(path), "-frames:v", "1", "-f", "rawvideo"]
    command += ["-pix_fmt", pixels, "-"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    values = np.frombuffer(done.stdout, dtype=kind)
    planes, place = [], 0
    for part in (1, 2, 2):
        width, height = size[0] // part, size[1] // part
        plane = values[place : place + width * height].reshape(height, width)
        place += width * height
        cells = plane.reshape(ROWS, height // ROWS, COLUMNS, width // COLUMNS).astype(float)
        edge = height // ROWS // 3
        planes.append(cells[:, edge:-edge, :, edge:-edge].mean((1, 3)).reshape(-1))
    return np.stack(planes, -1)


def colour_box(path: Path) -> tuple[int, int, int, int]:
    """Return primaries, transfer, matrix and full range of an mp4's `colr` (ISO/IEC 14496-12)."""
    content = path.read_bytes()
    start = content.index(b"colrnclx") + 8
    codes = [int.from_bytes(content[at : at + 2], "big") for at in range(start, start + 6, 2)]
    return codes[0], codes[1], codes[2], content[start + 6] >> 7


def with_dolby_vision(content: bytes, profile: int, compatibility: int) -> bytes:
    """Return an mp4 of HEVC, its index at the end, that says to be Dolby Vision.

    Its sample entry gets a `dvcC` (Dolby Vision Streams within the ISO Base Media File Format).
    """
    flags = profile << 9 | 1 << 3 | 0b101  # level 1, with RPU and base layer
    record = bytes([1, 0]) + flags.to_bytes(2, "big") + bytes([compatibility << 4]) + bytes(19)
    box = (8 + len(record)).to_bytes(4, "big") + b"dvcC" + record
    changed = bytearray(content)
    start = 0
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hvc1"):
        while bytes(changed[start + 4 : start + 8]) != name:
            start += int.from_bytes(changed[start : start + 4], "big")
        length = int.from_bytes(changed[start : start + 4], "big")
        changed[start : start + 4] = (length + len(box)).to_bytes(4, "big")
        end = start + length
        start += 8 + {b"stsd": 8, b"hvc1": 78}.get(name, 0)
    changed[end:end] = box
    return bytes(changed)
