"""Pictures of every shape, turned, mirrored, cropped: upright and in place in the output."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

from tests.media.frame_codes import Clip
from tests.media.recipes.boxes import box, edited
from tests.media.recipes.recipe import PLAIN, SIZE, Changed, Edit, Range, Recipe, Remade
from videoexport.v1 import export_pb2 as pb

SHORT = replace(PLAIN, frames=50)
FEW: tuple[Range, ...] = ((10, 24), (3, 15))
CROP = pb.ExportSettings(fit=pb.FIT_CROP)
STRETCH = pb.ExportSettings(fit=pb.FIT_STRETCH)
# Large, for its corners are a tenth of its width; and where it lies in a frame as large.
PORTRAIT = replace(SHORT, width=144, height=256)
LARGE = (512, 288)
NARROW = (174, 0, 162, 288)
_LOSSLESS = ("-c:v", "libx264", "-qp", "0", "-g", "25", "-c:a", "copy")


def _case(name: str, source: Any, **more: Any) -> Recipe:
    more = {"segments": FEW, **more}
    return Recipe(name=name, topic="geometry", source=source, **more)


def _stored(clip: Clip, filters: str, *more: str, container: str = "mp4") -> Remade:
    """A clip whose pictures are changed before they are stored."""
    return Remade(of=(clip,), arguments=("-vf", filters, *_LOSSLESS, *more), container=container)


def _with_matrix(matrix: tuple[int, int, int, int], content: bytes) -> bytes:
    """An mp4 whose pictures are shown through a matrix, in whole numbers."""
    one = 1 << 16
    a, b, c, d = matrix
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    start = content.index(upright, content.index(b"tkhd"))
    shown = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, (a or b) and 1 << 30)
    return content[:start] + shown + content[start + len(upright) :]


def _matrix(*matrix: int) -> Edit:
    a, b, c, d = matrix
    return partial(_with_matrix, (a, b, c, d))


def _cropped_matroska(content: bytes) -> bytes:
    """An mkv that crops 10 rows above and 14 below."""
    # FlagInterlaced and Colour give way to PixelCropTop, PixelCropBottom and a void.
    head = content.index(bytes.fromhex("9a8102"))
    colour = content.index(bytes.fromhex("55b0"), head)
    assert colour == head + 3
    size = content[colour + 2] - 0x80
    crop = bytes.fromhex("54bb810a 54aa810e")
    void = 3 + 3 + size - len(crop) - 2
    return (
        content[:head]
        + crop
        + bytes([0xEC, 0x80 + void])
        + bytes(void)
        + content[colour + 3 + size :]
    )


def _clean_aperture(content: bytes) -> bytes:
    """A mov of 128 × 96 that shows 128 × 72 of it, from row 10 on."""
    # The middle of what is shown, from the middle of the picture.
    values = (128, 1, 72, 1, 0, 1, 2 * (10 + 36 - 48), 2)
    clap = box(b"clap", struct.pack(">IIIIiIiI", *values))
    entry = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")
    return edited(content, entry, lambda old: box(b"avc1", old[8:] + clap))


def _tall(filters: str) -> Remade:
    return _stored(SHORT, filters)


GEOMETRY: tuple[Recipe, ...] = (
    _case("upright", SHORT),
    *(
        _case(f"turned {turn}°", replace(PORTRAIT, rotation=turn), size=LARGE, box=NARROW)
        for turn in (90, 270)
    ),
    _case("turned 180°", replace(SHORT, rotation=180)),
    _case("landscape turned 90°", replace(SHORT, rotation=90)),
    _case(
        "turned 90°, in mkv",
        Remade(of=(replace(SHORT, rotation=90),), container="mkv"),
        shows=SHORT,
        rotation=90,
    ),
    *(
        _case(
            f"mirrored by the matrix {a} {b} {c} {d}",
            Changed(of=(_stored(clip, undo),), how=_matrix(a, b, c, d)),
            shows=clip,
            size=LARGE if a == 0 else SIZE,
            box=NARROW if a == 0 else None,
            # And upside down.
            rotation=turn,
        )
        for (a, b, c, d), undo, clip, turn in (
            ((-1, 0, 0, 1), "hflip", SHORT, 180),
            ((1, 0, 0, -1), "vflip", SHORT, 0),
            ((0, 1, 1, 0), "transpose=cclock_flip", PORTRAIT, 90),
            ((0, -1, -1, 0), "transpose=clock_flip", PORTRAIT, 270),
        )
    ),
    _case(
        "matrix of zeros turns nothing", Changed(of=(SHORT,), how=_matrix(0, 0, 0, 0)), shows=SHORT
    ),
    _case("pixels half as wide", replace(SHORT, sar=Fraction(1, 2)), box=(64, 0, 128, 144)),
    _case("pixels twice as wide", replace(SHORT, sar=Fraction(2)), box=(0, 36, 256, 72)),
    _case(
        "PAL widescreen",
        replace(SHORT, width=144, height=116, sar=Fraction(64, 45)),
        box=(0, 0, 254, 144),
    ),
    _case(
        "wide pixels, turned 90°",
        replace(SHORT, width=96, height=72, sar=Fraction(4, 3), rotation=90),
        # Turned with the picture, they are as much higher than wide.
        box=(56, 0, 144, 144),
    ),
    _case("4:3", replace(SHORT, width=96, height=72), box=(32, 0, 192, 144)),
    _case("wider than the frame", replace(SHORT, width=160, height=64), box=(0, 20, 256, 102)),
    _case("odd size, 4:4:4", replace(SHORT, width=129, height=73, pixel_format="yuv444p")),
    _case(
        "odd size, VP9 in webm",
        replace(
            SHORT,
            width=129,
            height=73,
            container="webm",
            encoder=("-c:v", "libvpx-vp9", "-g", "25", "-deadline", "realtime", "-cpu-used", "8"),
            audio_codec="libopus",
        ),
    ),
    _case(
        "cropped by matroska",
        Changed(
            of=(_stored(SHORT, "pad=128:96:0:10", container="mkv"),),
            how=_cropped_matroska,
            container="mkv",
        ),
        shows=SHORT,
        # The colours' tags gave way.
        delta_e=None,
    ),
    _case(
        "cropped by a clean aperture",
        Changed(
            of=(_stored(SHORT, "pad=128:96:0:10", container="mov"),),
            how=_clean_aperture,
            container="mov",
        ),
        shows=SHORT,
    ),
    _case(
        "cropped by H.264",
        Remade(
            of=(_stored(SHORT, "pad=160:96:16:10"),),
            arguments=(
                *("-c", "copy", "-bsf:v"),
                "h264_metadata=crop_left=16:crop_right=16:crop_top=10:crop_bottom=14",
            ),
        ),
        shows=SHORT,
    ),
    _case(
        "portrait, as wide as between two even numbers",
        replace(SHORT, width=72, height=128),
        box=(86, 0, 82, 144),
        # The corners are too small for it.
        delta_e=None,
    ),
    _case("portrait, padded", PORTRAIT, size=LARGE, box=NARROW),
    _case("portrait, cropped", _tall("pad=128:228:0:78"), settings=CROP, shows=SHORT),
    _case("portrait, stretched", PORTRAIT, settings=STRETCH),
    _case("too wide, cropped", _tall("pad=256:72:64:0"), settings=CROP, shows=SHORT),
    _case(
        "turned portrait, stretched",
        replace(PORTRAIT, rotation=90),
        settings=STRETCH,
    ),
    _case(
        "turned portrait, cropped",
        Remade(
            of=(_stored(SHORT, "pad=128:228:0:78,transpose=cclock"),),
            before={0: ("-display_rotation", "-90")},
        ),
        settings=CROP,
        shows=SHORT,
        rotation=90,
    ),
    _case(
        "wide pixels, cropped",
        _stored(replace(SHORT, width=80, height=54), "pad=128:54:24:0,setsar=2"),
        settings=CROP,
        # 80 of 128 columns, twice as wide, to 54 rows.
        size=(320, 108),
        shows=replace(SHORT, width=80, height=54),
    ),
    _case("portrait, padded, in parts", PORTRAIT, size=LARGE, box=NARROW, chunk_seconds=0.4),
    _case("portrait, stretched, in parts", PORTRAIT, settings=STRETCH, chunk_seconds=0.4),
    _case("scaled up four times", SHORT, size=LARGE),
    _case("scaled down five times", replace(SHORT, width=1280, height=720)),
    _case("no resolution asked for", SHORT, size=None, made_size=(1280, 720), segments=((0, 12),)),
    *(
        _case(
            f"resolution {name}",
            SHORT,
            settings=pb.ExportSettings(resolution=resolution),
            size=None,
            made_size=size,
            segments=((10, 22),),
        )
        for name, resolution, size in (
            ("480p", pb.RESOLUTION_480P, (854, 480)),
            ("720p", pb.RESOLUTION_720P, (1280, 720)),
            ("1080p", pb.RESOLUTION_1080P, (1920, 1080)),
            ("1440p", pb.RESOLUTION_1440P, (2560, 1440)),
            ("2160p", pb.RESOLUTION_2160P, (3840, 2160)),
        )
    ),
    *(
        _case(
            f"resolution of the source, {name}",
            clip,
            settings=pb.ExportSettings(resolution=pb.RESOLUTION_SOURCE),
            size=None,
            made_size=size,
        )
        for name, clip, size in (
            ("upright", SHORT, (128, 72)),
            ("turned 90°", replace(PORTRAIT, rotation=90), (144, 256)),
            ("wide pixels", replace(SHORT, sar=Fraction(2)), (256, 72)),
            (
                "odd size",
                replace(SHORT, width=129, height=73, pixel_format="yuv444p"),
                (128, 72),
            ),
        )
    ),
)
