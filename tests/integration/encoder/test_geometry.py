"""Pictures are upright, fitted inside, padded and square-pixelled."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.integration.encoder.conftest import MakeClip, run_ffmpeg
from tests.media.exporting import expected_numbers, export
from tests.media.frame_codes import Clip, Image, read_pictures
from videoexport.v1 import export_pb2 as pb

RANGES = [(10, 14), (3, 6)]


@pytest.mark.parametrize(
    ("source", "box"),
    [
        (Clip(frames=20), (0, 0, 256, 144)),
        (Clip(frames=20, width=96, height=72), (32, 0, 192, 144)),
        (Clip(frames=20, width=160, height=64), (0, 20, 256, 102)),
        (Clip(frames=20, width=72, height=128), (87, 0, 80, 144)),
        (Clip(frames=20, sar=Fraction(1, 2)), (64, 0, 128, 144)),
        (Clip(frames=20, sar=Fraction(2)), (0, 36, 256, 72)),
        (Clip(frames=20, rotation=180), (0, 0, 256, 144)),
        (Clip(frames=20, width=72, height=128, rotation=90), (87, 0, 80, 144)),
        (Clip(frames=20, width=72, height=128, rotation=270), (87, 0, 80, 144)),
        (Clip(frames=20, pixel_format="yuv444p"), (0, 0, 256, 144)),
        (Clip(frames=20, pixel_format="yuv420p10le"), (0, 0, 256, 144)),
    ],
    ids=str,
)
async def test_picture_is_upright_fitted_and_padded(
    clip: MakeClip, tmp_path: Path, source: Clip, box: tuple[int, int, int, int]
) -> None:
    made = await export(clip(source), RANGES, tmp_path)
    pictures = read_pictures(made.path)
    # Reading the codes shows that no picture is turned or mirrored.
    assert [picture.number for picture in pictures] == expected_numbers(source, RANGES)
    for picture in pictures:
        found = (picture.left, picture.top, picture.width, picture.height)
        assert all(abs(a - b) <= 2 for a, b in zip(found, box, strict=True)), found
    with av.open(str(made.path)) as file:
        video = file.streams.video[0]
        assert video.sample_aspect_ratio == 1
        assert video.codec_context.pix_fmt == "yuv420p"


async def test_what_matroska_crops_is_no_part_of_the_picture(
    clip: MakeClip, tmp_path: Path
) -> None:
    source = Clip(frames=20)
    padded, cropped = tmp_path / "padded.mkv", tmp_path / "cropped.mkv"
    await run_ffmpeg("-i", clip(source), "-vf", "pad=128:96:0:10", padded)
    content = padded.read_bytes()
    # FlagInterlaced and Colour give way to PixelCropTop, PixelCropBottom and a void.
    told = bytes.fromhex("9a8102 55b08c55b9810155b7810155b88102")
    assert content.count(told) == 1
    cropped.write_bytes(content.replace(told, bytes.fromhex("54bb810a 54aa810e ec88") + bytes(8)))
    made = await export(cropped, RANGES, tmp_path)
    assert (made.info.video.width, made.info.video.height) == (128, 72)
    pictures = read_pictures(made.path)
    assert [picture.number for picture in pictures] == expected_numbers(source, RANGES)
    assert all(picture.width >= 254 and picture.height >= 142 for picture in pictures)


async def test_display_matrix_of_zeros_turns_nothing(clip: MakeClip, tmp_path: Path) -> None:
    source = Clip(frames=20)
    content = clip(source).read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    start = content.index(upright, content.index(b"tkhd"))
    singular = tmp_path / "singular.mp4"
    singular.write_bytes(content[:start] + bytes(36) + content[start + 36 :])
    made = await export(singular, RANGES, tmp_path)
    assert made.info.video.rotation == 0
    numbers = [picture.number for picture in read_pictures(made.path)]
    assert numbers == expected_numbers(source, RANGES)


@pytest.mark.parametrize(
    ("around", "wide"),
    [("pad=128:128:0:28", False), ("pad=256:72:64:0", False), ("pad=128:54:24:0,setsar=2", True)],
)
async def test_cropped_picture_fills_the_frame_with_its_middle(
    clip: MakeClip, tmp_path: Path, around: str, wide: bool
) -> None:
    source = Clip(frames=20, width=80, height=54) if wide else Clip(frames=20)
    padded = tmp_path / "padded.mp4"
    await run_ffmpeg("-i", clip(source), "-vf", around, "-c:a", "copy", padded)
    # With pixels twice as wide, 80 of 128 columns fill 160 × 54.
    size = (320, 108) if wide else (256, 144)
    made = await export(padded, RANGES, tmp_path, size=size, fit=pb.FIT_CROP)
    pictures = read_pictures(made.path)
    assert [picture.number for picture in pictures] == expected_numbers(source, RANGES)
    assert all(
        picture.width >= size[0] - 2 and picture.height >= size[1] - 2 for picture in pictures
    )


async def test_stretched_picture_fills_the_frame(clip: MakeClip, tmp_path: Path) -> None:
    source = Clip(frames=20, width=72, height=128, rotation=90)
    made = await export(clip(source), RANGES, tmp_path, fit=pb.FIT_STRETCH)
    pictures = read_pictures(made.path)
    assert [picture.number for picture in pictures] == expected_numbers(source, RANGES)
    assert all(picture.width >= 254 and picture.height >= 142 for picture in pictures)


async def test_size_of_the_source_draws_no_picture_anew(clip: MakeClip, tmp_path: Path) -> None:
    source = clip(Clip(frames=20, width=129, height=73, pixel_format="yuv444p"))
    made = await export(source, [(0, 5)], tmp_path, size=(128, 72), fit=pb.FIT_CROP)
    wanted = await luma_of(source, "crop=128:72:0:0,format=yuv420p", tmp_path)
    found = await luma_of(made.path, "null", tmp_path)
    # What is left is what encoding costs.
    assert np.abs(wanted[0].astype(int) - found[0]).mean() < 2


@pytest.mark.parametrize("mirrored", ["-1 0 0 1", "1 0 0 -1", "0 1 1 0", "0 -1 -1 0"])
async def test_mirrored_picture_is_shown_as_players_do(
    clip: MakeClip, tmp_path: Path, mirrored: str
) -> None:
    a, b, c, d = (int(word) for word in mirrored.split())
    turned = a == 0
    source = Clip(frames=20, width=72, height=128) if turned else Clip(frames=20)
    stored = tmp_path / "stored.mp4"
    # The matrix is its own inverse, so that what is stored is what it makes of the picture.
    undo = {(-1, 1): "hflip", (1, -1): "vflip"}.get(
        (a, d), "transpose=cclock_flip" if b > 0 else "transpose=clock_flip"
    )
    await run_ffmpeg("-i", clip(source), "-vf", undo, "-c:a", "copy", stored)
    content = stored.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    start = content.index(upright, content.index(b"tkhd"))
    one = 1 << 16
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    mirror = tmp_path / "mirror.mp4"
    mirror.write_bytes(content[:start] + matrix + content[start + 36 :])
    made = await export(mirror, RANGES, tmp_path)
    assert (made.info.video.rotation in (90, 270)) is turned
    # Reading the codes shows that no picture is turned or mirrored.
    numbers = [picture.number for picture in read_pictures(made.path)]
    assert numbers == expected_numbers(source, RANGES)


async def luma_of(path: Path, filters: str, folder: Path) -> list[Image]:
    """Return the brightness of a file's pictures after filters."""
    raw = folder / "luma"
    await run_ffmpeg("-i", path, "-vf", filters, "-f", "rawvideo", "-pix_fmt", "gray", raw)
    planes = np.frombuffer(raw.read_bytes(), dtype=np.uint8).reshape(-1, 72, 128)
    return list(planes)
