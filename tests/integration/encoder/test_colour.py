"""Patches of known colours look the same in the export, whatever the source is coded in."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from services.encoder.errors import InvalidSource
from tests.integration.encoder.probing import probe_bytes
from tests.media.colour import Array, Tags, delta_e, lab_of, light_of
from tests.media.exporting import Export, export
from tests.media.patches import (
    GREYS,
    SRGB,
    X265,
    colour_box,
    make_patches,
    read_values,
    shown,
    tags_of,
    with_dolby_vision,
)
from videoexport.v1 import export_pb2 as pb

BT709 = Tags()
BT601_525 = Tags("smpte170m", "smpte170m", "smpte170m")
BT601_625 = Tags("bt470bg", "smpte170m", "bt470bg")
BT2020 = Tags("bt2020", "bt2020-10", "bt2020nc")
PQ = Tags("bt2020", "smpte2084", "bt2020nc")
HLG = Tags("bt2020", "arib-std-b67", "bt2020nc")
FULL_709 = Tags(range="pc")
RGB = Tags(matrix="gbr", range="pc")
X264 = ("-c:v", "libx264", "-qp", "0")
# Twice the patches' size: fitted without bars.
SIZE = (288, 192)

WEBM = ("-auto-alt-ref", "0", "-crf", "4", "-b:v", "9M")
MASTERED = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


async def exported(source: Path, folder: Path) -> Export:
    made = await export(source, [(0, 2), (3, 5)], folder, size=SIZE, quality=pb.QUALITY_HIGH)
    with av.open(str(made.path)) as file:
        assert file.streams.video[0].codec_context.pix_fmt == "yuv420p"
    return made


def seen(path: Path) -> Array:
    """Return the light of every patch, by what the file says of itself."""
    return light_of(read_values(path), tags_of(path))


def difference(wanted: Array, path: Path) -> Array:
    """Return how far every patch is from the light that is wanted."""
    return delta_e(lab_of(wanted), lab_of(seen(path)))


@pytest.mark.parametrize(
    ("tags", "pixel_format"),
    [
        (BT709, "yuv420p"),
        (BT709, "yuv422p"),
        (BT709, "yuv444p"),
        (BT709, "yuv420p10le"),
        (BT709, "yuv422p10le"),
        (BT709, "yuv444p12le"),
        (FULL_709, "yuv420p"),
        (FULL_709, "yuv422p10le"),
        (BT601_525, "yuv420p"),
        (BT601_625, "yuv422p10le"),
        (Tags("bt470bg", "smpte170m", "bt470bg", "pc"), "yuv444p"),
        (Tags(transfer="iec61966-2-1"), "yuv420p"),
        (RGB, "gbrp"),
        (RGB, "gbrp10le"),
        (RGB, "gbrp12le"),
        (Tags(transfer="iec61966-2-1", matrix="gbr", range="pc"), "gbrp"),
    ],
    ids=str,
)
async def test_sdr_looks_the_same_and_is_tagged(
    tmp_path: Path, tags: Tags, pixel_format: str
) -> None:
    source = make_patches(tmp_path / "source.mkv", SRGB, tags, pixel_format)
    made = await exported(source, tmp_path)
    assert difference(shown(SRGB, tags), made.path).max() <= 2
    assert np.abs(read_values(made.path)[GREYS, 1:] - 128).max() <= 0.5
    matrix = "bt709" if tags.matrix == "gbr" else tags.matrix
    assert tags_of(made.path) == Tags(tags.primaries, tags.transfer, matrix, "tv")


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le", "gray12le"])
@pytest.mark.parametrize("tags", [BT709, FULL_709], ids=str)
async def test_grey_pictures_look_the_same(tmp_path: Path, tags: Tags, pixel_format: str) -> None:
    greys = SRGB.mean(axis=1, keepdims=True).repeat(3, axis=1)
    source = make_patches(tmp_path / "source.mkv", greys, tags, pixel_format)
    made = await exported(source, tmp_path)
    assert difference(greys, made.path).max() <= 2
    assert tags_of(made.path) == BT709


@pytest.mark.parametrize(
    ("tags", "pixel_format"),
    [
        (BT2020, "yuv420p10le"),
        (BT2020, "yuv422p"),
        (Tags("bt2020", "bt709", "bt2020nc", "pc"), "yuv444p12le"),
        (Tags("bt2020", "bt709", "bt709"), "yuv420p"),
        (Tags("smpte432", "bt709", "bt709"), "yuv420p"),
        (Tags("smpte432", "iec61966-2-1", "smpte170m", "pc"), "yuv420p"),
        (Tags("smpte431", "bt709", "bt709"), "yuv444p10le"),
        (Tags("smpte432", "iec61966-2-1", "gbr", "pc"), "gbrp"),
        (Tags("bt709", "bt709", "bt2020nc"), "yuv420p"),
    ],
    ids=str,
)
async def test_what_few_players_show_is_converted(
    tmp_path: Path, tags: Tags, pixel_format: str
) -> None:
    source = make_patches(tmp_path / "source.mkv", SRGB, tags, pixel_format)
    made = await exported(source, tmp_path)
    assert difference(shown(SRGB, tags), made.path).max() <= 2
    srgb = tags.transfer == "iec61966-2-1"
    assert tags_of(made.path) == Tags(transfer="iec61966-2-1" if srgb else "bt709")


@pytest.mark.parametrize(
    ("rate", "assumed"), [(25, BT601_625), (30, BT601_525)], ids=["625 lines", "525 lines"]
)
async def test_small_picture_that_says_nothing_is_taken_for_television(
    tmp_path: Path, rate: int, assumed: Tags
) -> None:
    source = make_patches(
        *(tmp_path / "source.mp4", SRGB, assumed, "yuv420p"), codec=X264, told=False, rate=rate
    )
    made = await exported(source, tmp_path)
    video = made.info.video
    assert video.color_space == video.color_primaries == video.color_transfer == ""
    assert difference(shown(SRGB, assumed), made.path).max() <= 2
    assert tags_of(made.path) == assumed
    assert colour_box(made.path) == ((5, 6, 5, 0) if rate == 25 else (6, 6, 6, 0))


async def test_full_range_of_old_formats_is_taken_for_such(tmp_path: Path) -> None:
    source = make_patches(
        *(tmp_path / "source.mp4", SRGB, FULL_709, "yuvj420p"),
        codec=("-c:v", "libx264", "-qp", "0"),
    )
    made = await exported(source, tmp_path)
    assert made.info.video.pixel_format == "yuvj420p"
    assert difference(SRGB, made.path).max() <= 2
    assert colour_box(made.path) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    ("name", "pixel_format", "codec"),
    [
        ("ffv1.mkv", "yuva420p", ("-c:v", "ffv1")),
        ("ffv1.mkv", "yuva444p10le", ("-c:v", "ffv1")),
        ("rle.mov", "gbrap", ("-pix_fmt", "argb", "-c:v", "qtrle")),
        ("png.mov", "gbrap", ("-pix_fmt", "rgba", "-c:v", "png")),
        ("prores.mov", "yuva444p10le", ("-c:v", "prores_ks", "-profile:v", "4444", "-qscale", "1")),
        (
            "vp9.webm",
            "yuva420p",
            ("-c:v", "libvpx-vp9", "-auto-alt-ref", "0", "-crf", "4", "-b:v", "0"),
        ),
        (
            "vp8.webm",
            "yuva420p",
            ("-c:v", "libvpx", "-auto-alt-ref", "0", "-crf", "4", "-b:v", "9M"),
        ),
    ],
)
async def test_what_can_be_seen_through_shows_black(
    tmp_path: Path, name: str, pixel_format: str, codec: tuple[str, ...]
) -> None:
    # A picture of VP8 is always in the colours of BT.601.
    tags = RGB if pixel_format == "gbrap" else BT601_625
    alpha = np.tile([1.0, 0.6, 0.0], 8)
    source = make_patches(tmp_path / name, SRGB, tags, pixel_format, codec=codec, alpha=alpha)
    made = await exported(source, tmp_path)
    # Mixed as players do: as coded, not as light.
    wanted = (shown(SRGB, tags) ** (1 / 2.4) * alpha[:, None]) ** 2.4
    far = difference(wanted, made.path)
    # VP8 and VP9 lose some colour of their own.
    assert far.max() <= (4 if name.startswith("vp") else 2)
    assert far[2::3].max() <= 1


@pytest.mark.parametrize(("tags", "least", "most"), [(PQ, 0.82, 0.85), (HLG, 0.83, 0.86)], ids=str)
async def test_hdr_greys_are_tone_mapped(
    tmp_path: Path, tags: Tags, least: float, most: float
) -> None:
    nits = np.array([0, 0.5, 1, 2, 5, 10, 15, 20, 26, 35, 45, 55, 61, 80, 100, 130, 160, 203])
    nits = np.append(nits, [300, 400, 500, 700, 850, 1000])
    light = np.repeat(nits[:, None] / 203, 3, axis=1)
    codec = (*X265[:-1], f"{X265[-1]}:{MASTERED}:max-cll=1000,400")
    source = make_patches(tmp_path / "hdr.mp4", light, tags, "yuv420p10le", codec=codec)
    made = await exported(source, tmp_path)
    assert (made.info.video.color_transfer, tags_of(made.path)) == (tags.transfer, BT709)
    assert colour_box(made.path) == (1, 1, 1, 0)
    values = read_values(made.path)
    assert np.abs(values[:, 1:] - 128).max() <= 0.5
    signal = (values[:, 0] - 16) / 219
    assert (np.diff(signal) > 0).all()
    # White keeps room above it, of which 1,000 nits take nearly all.
    assert least <= signal[17] <= most
    assert 0.95 <= signal[23] <= 1.005
    # Mid tones are as bright beside white as they were.
    middle = slice(0, 13)
    assert signal[middle] == pytest.approx((nits[middle] / 203) ** (1 / 2.4), abs=0.006)
    content = made.path.read_bytes()
    assert b"mdcv" not in content
    assert b"clli" not in content


@pytest.mark.parametrize("tags", [PQ, HLG], ids=str)
async def test_hdr_colours_keep_their_hue(tmp_path: Path, tags: Tags) -> None:
    # Faces and the like below 61 nits; pure colours as bright as white.
    light = SRGB * np.where(np.arange(24) < 6, 1.0, 0.28)[:, None]
    source = make_patches(tmp_path / "hdr.mp4", light, tags, "yuv420p10le", codec=X265)
    made = await exported(source, tmp_path)
    assert difference(light, made.path)[6:].max() <= 2
    wanted, found = lab_of(light), lab_of(seen(made.path))
    turned = np.degrees(
        np.arctan2(found[:6, 2], found[:6, 1]) - np.arctan2(wanted[:6, 2], wanted[:6, 1])
    )
    assert np.abs((turned + 180) % 360 - 180).max() <= 3


async def test_hdr_that_says_no_more_than_its_curve_is_taken_for_bt2020(tmp_path: Path) -> None:
    bsf = "hevc_metadata=colour_primaries=2:matrix_coefficients=2"
    codec = (*X265, "-bsf:v", bsf)
    light = SRGB * 0.28
    source = make_patches(tmp_path / "hdr.mkv", light, PQ, "yuv420p10le", codec=codec)
    made = await exported(source, tmp_path)
    assert (made.info.video.color_primaries, made.info.video.color_space) == ("", "")
    assert difference(light, made.path).max() <= 2


async def test_dolby_vision_is_exported_by_its_base(tmp_path: Path) -> None:
    source = make_patches(tmp_path / "base.mp4", SRGB * 0.28, PQ, "yuv420p10le", codec=X265)
    content = source.read_bytes()
    source.write_bytes(with_dolby_vision(content, profile=8, compatibility=1))
    made = await exported(source, tmp_path)
    assert difference(SRGB * 0.28, made.path).max() <= 2
    assert b"dvcC" not in made.path.read_bytes()
    with pytest.raises(InvalidSource, match="Dolby Vision"):
        await probe_bytes(with_dolby_vision(content, profile=5, compatibility=0))
