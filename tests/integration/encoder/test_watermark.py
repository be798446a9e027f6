"""Watermarks are drawn where they must be; images that are none are refused."""

from __future__ import annotations

import asyncio
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from services.common.planner import plan_export
from services.encoder.commands.marking import MARK
from services.encoder.errors import InvalidWatermark
from services.encoder.sources.gateway import SourceGateway, SourceObject
from tests.integration.encoder.conftest import run_ffmpeg
from tests.media import watermarks
from tests.media.exporting import export, export_in_parts
from tests.media.images import image
from tests.media.recipes.marks import settings
from tests.media.watermarks import OneImage, make_mark
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

WIDTH, HEIGHT = 320, 180
Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
async def grey(scratch: Path) -> Path:
    """Return two seconds of grey."""
    path = scratch / "grey.mp4"
    await run_ffmpeg(
        *("-f", "lavfi", "-i", f"color=gray:s={WIDTH}x{HEIGHT}:r=25:d=2"),
        *("-c:v", "libx264", "-qp", "0", "-g", "10", path),
    )
    return path


def planned(info: pb.SourceInfo, **watermark: object) -> pb.Plan:
    """Plan all of the clip with a watermark."""
    plan = plan_export(info, (), settings(**watermark))
    plan.width, plan.height, plan.quality = WIDTH, HEIGHT, pb.QUALITY_HIGH
    return plan


async def marked(grey: Path, folder: Path, content: bytes, **watermark: object) -> Picture:
    """Return the last picture of the clip with a watermark."""
    folder.mkdir()
    made = await export(
        grey, None, folder, planned=lambda info: planned(info, **watermark), image=content
    )
    with av.open(str(made.path)) as file:
        *_, last = file.decode(video=0)
    return last.to_ndarray(format="rgb24")


def box_of(picture: Picture) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is not grey."""
    other = np.abs(picture.astype(int) - picture[0, 0].astype(int)).max(axis=2) > 40
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize(
    ("position", "box"),
    [
        (pb.WATERMARK_POSITION_TOP_LEFT, (32, 32, 112, 72)),
        (pb.WATERMARK_POSITION_TOP_RIGHT, (208, 32, 288, 72)),
        (pb.WATERMARK_POSITION_BOTTOM_LEFT, (32, 108, 112, 148)),
        (pb.WATERMARK_POSITION_BOTTOM_RIGHT, (208, 108, 288, 148)),
        (pb.WATERMARK_POSITION_CENTER, (120, 70, 200, 110)),
    ],
)
async def test_watermark_is_where_it_must_be_in_its_own_shape(
    grey: Path,
    tmp_path: Path,
    position: pb.WatermarkPosition.ValueType,
    box: tuple[int, int, int, int],
) -> None:
    picture = await marked(
        grey, tmp_path / "made", image("png"), position=position, width=0.25, margin=0.1
    )
    assert box_of(picture) == pytest.approx(box, abs=1)


async def test_high_image_fits_between_the_margins(grey: Path, tmp_path: Path) -> None:
    picture = await marked(
        *(grey, tmp_path / "made", image("png", "50x500")), width=1.0, margin=0.1
    )
    left, top, right, bottom = box_of(picture)
    assert (top, bottom) == pytest.approx((32, 148), abs=1)
    assert right - left == pytest.approx(11.6, abs=2)


@pytest.mark.parametrize(
    ("colour", "opacity", "seen"),
    [
        ("red", 1.0, (255, 0, 0)),
        ("red", 0.5, (192, 64, 64)),
        ("red@0.5", 1.0, (192, 64, 64)),
        ("red@0.5", 0.5, (160, 96, 96)),
        ("lime", 1.0, (0, 255, 0)),
        ("blue", 0.25, (96, 96, 160)),
        ("white", 0.0, (128, 128, 128)),
    ],
)
async def test_as_much_is_seen_of_it_as_must_be(
    grey: Path, tmp_path: Path, colour: str, opacity: float, seen: tuple[int, int, int]
) -> None:
    content = image("png", "64x64", colour)
    where = {"position": pb.WATERMARK_POSITION_CENTER, "width": 0.2}
    picture = await marked(grey, tmp_path / "made", content, opacity=opacity, **where)
    # Read in BT.601, which small pictures are in.
    found = picture[80:100, 150:170].mean(axis=(0, 1))
    assert found == pytest.approx(seen, abs=8)


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt470bg"])
async def test_pictures_stay_in_their_own_colours(tmp_path: Path, matrix: str) -> None:
    said = f"setparams=colorspace={matrix}:color_primaries={matrix}:color_trc=smpte170m:range=tv"
    source = tmp_path / "source.mp4"
    await run_ffmpeg(
        *("-f", "lavfi", "-i", f"color=teal:s={WIDTH}x{HEIGHT}:r=25:d=0.4", "-vf", said),
        *("-c:v", "libx264", "-qp", "0", source),
    )
    await marked(source, tmp_path / "made", image("png"))
    with av.open(str(source)) as before, av.open(str(tmp_path / "made/output.mp4")) as after:
        one, other = (next(file.decode(video=0)) for file in (before, after))
        assert other.colorspace == one.colorspace
        found, wanted = (each.to_ndarray()[:HEIGHT, : WIDTH // 2] for each in (other, one))
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 2


async def test_edges_have_no_colours_of_what_cannot_be_seen(grey: Path, tmp_path: Path) -> None:
    # Stripes of white in what is green but cannot be seen.
    stripes = "if(lt(mod(X,7),3),255,{})"
    pixels = f"r='{stripes.format(0)}':g=255:b='{stripes.format(0)}':a='{stripes.format(0)}'"
    await run_ffmpeg(
        *("-f", "lavfi", "-i", "color=white:s=301x301:d=1:r=1,format=rgba"),
        *("-vf", f"geq={pixels}", "-frames:v", "1", tmp_path / "stripes.png"),
    )
    content = (tmp_path / "stripes.png").read_bytes()
    picture = await marked(grey, tmp_path / "made", content, width=0.3)
    red, green = (picture[..., side].astype(int) for side in (0, 1))
    assert int((green - red).max()) < 20


def png_of(width: int, height: int, *, whole: bool = False) -> bytes:
    """Return a black PNG of a size, or one that announces it and has next to nothing of it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = b"\0" * ((1 + -(-width // 8)) * height if whole else 99)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/"/></svg>'
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1/x.png\n"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0" * 1000, id="zeros"),
        pytest.param(SVG, id="svg"),
        pytest.param(PLAYLIST, id="playlist"),
        pytest.param(b"ffconcat version 1.0\nfile x.png\n", id="script"),
        pytest.param(png_of(60_000, 60_000), id="endless"),
        pytest.param(png_of(8193, 8193, whole=True), id="too large"),
        pytest.param(png_of(0, 0), id="no size"),
        pytest.param(png_of(500, 500)[:60], id="cut off"),
    ],
)
async def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    plan = pb.Plan(width=WIDTH, height=HEIGHT, watermark=settings(opacity=1.0).watermark)
    async with SourceGateway() as gateway:
        with pytest.raises(InvalidWatermark, match="is not a PNG, JPEG or WebP image"):
            await make_mark(gateway, plan, content or b"\0", tmp_path)


async def test_small_image_of_that_kind_is_taken(tmp_path: Path) -> None:
    plan = pb.Plan(width=WIDTH, height=HEIGHT, watermark=settings(opacity=1.0).watermark)
    async with SourceGateway() as gateway:
        await make_mark(gateway, plan, png_of(100, 100, whole=True), tmp_path)
    assert (tmp_path / MARK).exists()


@pytest.mark.parametrize("kind", ["gif", "bmp", "mp4", "tiff"])
async def test_other_formats_are_refused(tmp_path: Path, kind: str) -> None:
    plan = pb.Plan(width=WIDTH, height=HEIGHT, watermark=settings(opacity=1.0).watermark)
    content = image(kind)
    async with SourceGateway() as gateway:
        with pytest.raises(InvalidWatermark):
            await make_mark(gateway, plan, content, tmp_path)


class Overwritten(OneImage):
    """An image that is another one by the time it is read."""

    def source_object(self, user_id: str, image: task_pb2.TaskSource) -> SourceObject:
        """The image as it was."""
        found = super().source_object(user_id, image)
        self.server.etag = "another"
        return found


async def test_image_that_was_overwritten_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = pb.Plan(width=WIDTH, height=HEIGHT, watermark=settings(opacity=1.0).watermark)
    monkeypatch.setattr(watermarks, "OneImage", Overwritten)
    async with SourceGateway() as gateway:
        with pytest.raises(InvalidWatermark, match="overwritten or removed"):
            await make_mark(gateway, plan, image("png"), tmp_path)


async def test_parts_have_what_the_whole_has(grey: Path, tmp_path: Path) -> None:
    content = image("png", "64x64", "red@0.7")
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = await export(grey, None, tmp_path / "whole", planned=planned, image=content)
    parts = await export_in_parts(
        *(grey, (), tmp_path / "parts"), chunk_seconds=0.5, planned=planned, image=content
    )
    for one, other in zip(await pictures(whole.path), await pictures(parts.path), strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).mean() < 1
    assert len(list((tmp_path / "parts").rglob(MARK))) == len(parts.chunks)


async def pictures(path: Path) -> list[Picture]:
    def read() -> list[Picture]:
        with av.open(str(path)) as file:
            return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]

    return await asyncio.to_thread(read)


async def test_pause_takes_no_more_memory_for_being_drawn_onto(tmp_path: Path) -> None:
    source = tmp_path / "source.mkv"
    await run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=2", "-fps_mode", "passthrough"),
        # The picture of the first second is shown for a minute longer.
        *("-vf", r"setpts=PTS+gt(N\,25)*60/TB", "-c:v", "libx264", "-preset", "ultrafast", source),
    )

    def larger(info: pb.SourceInfo) -> pb.Plan:
        plan = planned(info)
        plan.width, plan.height, plan.quality = 640, 360, pb.QUALITY_LOW
        return plan

    made = await export(source, None, tmp_path, planned=larger, image=image("png"))
    assert made.plan.frame_count > 1500
    # All of its frames at once are half a gigabyte.
    assert max(result.peak_memory_bytes for result in made.results) < 250 << 20
