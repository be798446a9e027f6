"""With its dynamic range kept, a source's colours are in the export as they were coded."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
import pytest

from services.common.codecs import CONTAINERS
from tests.media.colour import Tags, coded
from tests.media.exporting import Range, export, export_in_parts, plan_of
from tests.media.patches import SRGB, X265, make_patches, read_values, tags_of, with_dolby_vision
from videoexport.v1 import export_pb2 as pb

PQ = Tags("bt2020", "smpte2084", "bt2020nc")
HLG = Tags("bt2020", "arib-std-b67", "bt2020nc")
BT2020 = Tags("bt2020", "bt2020-10", "bt2020nc")
P3 = Tags("smpte432", "bt709", "bt709")
SIZE = (288, 192)
RANGES = ((0, 2), (3, 5))
MASTERED = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
HDR10 = (*X265[:-1], f"{X265[-1]}:{MASTERED}:max-cll=1000,400")
MASTERING = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.005, 1000, 1000, 400]
# Faces and the like below 61 nits, and greys beyond white.
LIGHT = SRGB * 0.9
Form: TypeAlias = "pb.Format.ValueType"
Codec: TypeAlias = "pb.VideoCodec.ValueType"
KEEPING = [
    pytest.param(form, codec, id=f"{codec} in {container.suffix}")
    for form, container in CONTAINERS.items()
    for codec in container.codecs
    if codec != pb.VIDEO_CODEC_H264
]


def keeping(
    form: Form, codec: Codec, ranges: Sequence[Range] = RANGES
) -> Callable[[pb.SourceInfo], pb.Plan]:
    def plan(info: pb.SourceInfo) -> pb.Plan:
        made = plan_of(info, ranges, size=SIZE, quality=pb.QUALITY_HIGH)
        made.format, made.video_codec = form, codec
        made.dynamic_range = pb.DYNAMIC_RANGE_KEEP
        return made

    return plan


def pixels_of(path: Path) -> str:
    with av.open(str(path)) as file:
        return str(next(file.decode(video=0)).format.name)


def mastering_of(path: Path) -> list[float]:
    """Return what a file says of the screen that its pictures were made for.

    x and y of red, green, blue and white; the least and the most nits; the brightest picture's
    pixel and mean. Nothing where it does not say all of it.
    """
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
        told = {data.type.name: bytes(data) for data in frame.side_data}
    screen, light = told.get("MASTERING_DISPLAY_METADATA"), told.get("CONTENT_LIGHT_LEVEL")
    if screen is None or light is None:
        assert screen is light
        return []
    # libavutil's AVMasteringDisplayMetadata: ten fractions, each codec's of its own.
    parts = struct.unpack("<20i", screen[:80])
    fractions = [Fraction(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return [*map(float, fractions), *struct.unpack("<2I", light[:8])]


def assert_coded(path: Path, tags: Tags, wanted: Tags | None = None, *, within: float = 4) -> None:
    """Check that patches have the values that their light has by these tags, in 10 bits."""
    assert tags_of(path) == (wanted or tags)
    far = np.abs(read_values(path, 10) - coded(LIGHT, wanted or tags, 10))
    # In the middle of a patch, and a codec's own loss.
    assert far.max() <= within, far.max()


@pytest.mark.parametrize(("form", "codec"), KEEPING)
@pytest.mark.parametrize("tags", [PQ, HLG], ids=str)
async def test_hdr_is_kept(tmp_path: Path, form: Form, codec: Codec, tags: Tags) -> None:
    codecs = HDR10 if tags is PQ else X265
    source = make_patches(tmp_path / "hdr.mp4", LIGHT, tags, "yuv420p10le", codec=codecs)
    made = await export(source, None, tmp_path, planned=keeping(form, codec))
    assert pixels_of(made.path) == "yuv420p10le"
    assert_coded(made.path, tags)
    assert mastering_of(made.path) == pytest.approx(MASTERING if tags is PQ else [], abs=2e-4)


@pytest.mark.parametrize(("form", "codec"), KEEPING)
async def test_parts_of_hdr_join_and_say_what_they_were_mastered_for(
    tmp_path: Path, form: Form, codec: Codec
) -> None:
    source = make_patches(tmp_path / "hdr.mp4", LIGHT, PQ, "yuv420p10le", codec=HDR10, rate=5)
    plan = keeping(form, codec, [(0, 5), (2, 4), (0, 5)])
    made = await export_in_parts(source, (), tmp_path, chunk_seconds=0.2, planned=plan)
    assert len(made.chunks) > 1
    assert_coded(made.path, PQ)
    for path in (made.path, *made.parts):
        assert mastering_of(path) == pytest.approx(MASTERING, abs=2e-4)


@pytest.mark.parametrize(
    ("tags", "pixels"),
    [
        (PQ, "yuv422p12le"),
        (Tags("bt2020", "smpte2084", "bt2020nc", "pc"), "yuv444p10le"),
        (Tags("bt2020", "smpte2084", "gbr", "pc"), "gbrp10le"),
        (Tags("bt2020", "arib-std-b67", "gbr", "pc"), "gbrp12le"),
        (BT2020, "yuv420p10le"),
        (P3, "yuv420p10le"),
    ],
    ids=str,
)
async def test_wide_gamuts_are_carried_from_every_depth_and_matrix(
    tmp_path: Path, tags: Tags, pixels: str
) -> None:
    source = make_patches(tmp_path / "source.mkv", LIGHT, tags, pixels)
    plan = keeping(pb.FORMAT_MP4, pb.VIDEO_CODEC_HEVC)
    made = await export(source, None, tmp_path, planned=plan)
    matrix = tags.matrix.replace("gbr", "bt2020nc")
    assert pixels_of(made.path) == "yuv420p10le"
    assert_coded(made.path, tags, Tags(tags.primaries, tags.transfer, matrix))


@pytest.mark.parametrize(("pixels", "kept"), [("yuv420p", 8), ("yuv422p10le", 10)])
async def test_sdr_stays_sdr_and_as_deep_as_it_is(tmp_path: Path, pixels: str, kept: int) -> None:
    source = make_patches(tmp_path / "source.mkv", LIGHT, Tags(), pixels)
    plan = keeping(pb.FORMAT_MP4, pb.VIDEO_CODEC_AV1)
    made = await export(source, None, tmp_path, planned=plan)
    assert pixels_of(made.path) == ("yuv420p" if kept == 8 else "yuv420p10le")
    assert tags_of(made.path) == Tags()
    far = np.abs(read_values(made.path, kept) - coded(LIGHT, Tags(), kept))
    assert far.max() <= 4


@pytest.mark.parametrize(
    ("profile", "compatibility", "tags"), [(8, 1, PQ), (8, 4, HLG)], ids=["HDR10", "HLG"]
)
async def test_dolby_vision_is_kept_as_its_base(
    tmp_path: Path, profile: int, compatibility: int, tags: Tags
) -> None:
    source = make_patches(tmp_path / "base.mp4", LIGHT, tags, "yuv420p10le", codec=X265)
    source.write_bytes(with_dolby_vision(source.read_bytes(), profile, compatibility))
    plan = keeping(pb.FORMAT_MP4, pb.VIDEO_CODEC_HEVC)
    made = await export(source, None, tmp_path, planned=plan)
    assert_coded(made.path, tags)
    content = made.path.read_bytes()
    assert not any(name in content for name in (b"dvcC", b"dvvC", b"dvhe", b"dvh1"))


async def test_hdr_is_tone_mapped_to_every_codec_unless_it_is_kept(tmp_path: Path) -> None:
    source = make_patches(tmp_path / "hdr.mp4", LIGHT, PQ, "yuv420p10le", codec=HDR10)

    def plan(info: pb.SourceInfo) -> pb.Plan:
        made = keeping(pb.FORMAT_MP4, pb.VIDEO_CODEC_HEVC)(info)
        made.dynamic_range = pb.DYNAMIC_RANGE_SDR
        return made

    made = await export(source, None, tmp_path, planned=plan)
    assert pixels_of(made.path) == "yuv420p"
    assert tags_of(made.path) == Tags()
    assert mastering_of(made.path) == []
