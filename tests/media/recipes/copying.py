"""Pictures that are copied as they are, or encoded and the owner told why."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from tests.media.recipes.recipe import PLAIN, Changed, Range, Recipe, Remade
from tests.media.recipes.timing import NTSC
from videoexport.v1 import export_pb2 as pb

SETTINGS = pb.ExportSettings(quality=pb.QUALITY_SOURCE)
# Of groups of 2 s, each of which the probe names.
GROUPS = replace(PLAIN, frames=300, gop=50)
PYRAMID = (
    *("-c:v", "libx264", "-crf", "6", "-x264-params"),
    "keyint=50:min-keyint=50:scenecut=0:bframes=7:b-adapt=0:b-pyramid=normal:ref=5",
)
# Neither end on a border, both, one, a jump back, within a group, up to the end.
CUTS: tuple[Range, ...] = ((30, 180), (50, 150), (100, 190), (10, 110), (60, 80), (240, 300))
COPIED = 100 + 100 + 50 + 50 + 50


def _case(name: str, source: Any, copied: int = 0, warned: str = "", **more: Any) -> Recipe:
    size = (PLAIN.width, PLAIN.height)
    usual: dict[str, Any] = {"settings": SETTINGS, "segments": CUTS, "made_size": size}
    return Recipe(
        name=name,
        topic="copying",
        source=source,
        size=None,
        copied=copied,
        warned=warned,
        codes=("COPY_NOT_POSSIBLE",) if warned else (),
        gpu=False,
        **(usual | more),
    )


def _one_after_the_other(*contents: bytes) -> bytes:
    return b"".join(contents)


HALF = replace(GROUPS, frames=150, container="ts", first_frame_time=1.0)
# The second has no arithmetic coding.
NO_CABAC = ("-crf", "6", "-x264-params", "keyint=50:min-keyint=50:scenecut=0:bframes=2:cabac=0")
HALVES = (HALF, replace(HALF, encoder=NO_CABAC, first_frame_time=7.0))
COPYING: tuple[Recipe, ...] = (
    _case("copied groups", GROUPS, COPIED),
    _case("copied groups of pyramids", replace(GROUPS, encoder=PYRAMID), COPIED),
    _case("copied groups without B-frames", replace(GROUPS, b_frames=0), COPIED),
    _case("copied groups of MOV", replace(GROUPS, container="mov"), COPIED),
    _case("copied groups at 29.97", replace(GROUPS, rate=NTSC, gop=60), 300),
    _case("copied all-intra", replace(GROUPS, gop=1, b_frames=0), COPIED),
    _case("copied as a whole", GROUPS, 300, segments=None),
    _case("copied to the frame, no edges", GROUPS, 150, segments=((50, 150), (250, 300))),
    _case(
        "copied, thirty segments",
        GROUPS,
        3250,
        segments=tuple((17 * n % 50, 17 * n % 50 + 160) for n in range(30)),
        joins=30,
    ),
    _case("copied, one group, all of it", replace(GROUPS, gop=1000), 300, segments=None),
    _case("not copied: one group, cut", replace(GROUPS, gop=1000), warned="no segment holds"),
    _case("not copied: within a group", GROUPS, warned="no segment holds", segments=((60, 90),)),
    _case("not copied: open GOPs", replace(GROUPS, open_gop=True), warned="open GOPs"),
    _case("not copied: a rate that varies", replace(GROUPS, durations=(1, 1, 2)), warned="varies"),
    _case(
        "not copied: parameters that change on the way",
        Remade(of=(Changed(of=HALVES, how=_one_after_the_other, container="ts"),)),
        warned="parameters change",
        shows=GROUPS,
        numbers=[*range(150), *range(150)],
        clicks=False,
    ),
    _case(
        "not copied: another size",
        GROUPS,
        warned="pixels",
        settings=pb.ExportSettings(quality=pb.QUALITY_SOURCE, resolution=pb.RESOLUTION_480P),
        made_size=(854, 480),
    ),
    _case("not copied: mkv", replace(GROUPS, container="mkv"), warned="neither MP4 nor MOV"),
    _case(
        "not copied: oblong pixels",
        replace(GROUPS, sar=Fraction(4, 3)),
        warned="not square",
        made_size=(170, 72),
    ),
)
