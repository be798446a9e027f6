"""Pictures coded in every way: sought exactly, joined to the frame."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from typing import Any

from tests.media.corner_marks import Stored
from tests.media.frame_codes import Clip
from tests.media.recipes.recipe import PLAIN, Range, Recipe
from tests.media.recipes.timing import NTSC, VP9

TS = replace(PLAIN, container="ts")
HEVC = (
    "-c:v",
    "libx265",
    "-preset",
    "fast",
    "-crf",
    "16",
    "-x265-params",
    "keyint=50:log-level=none",
)
# Pictures that are shown before a keyframe and decoded after it: lost where it comes first.
OPEN_HEVC = (
    *("-c:v", "libx265", "-preset", "fast", "-crf", "16", "-x265-params"),
    "keyint=25:min-keyint=25:scenecut=0:open-gop=1:bframes=4:b-adapt=0:log-level=none",
)
DEEP = (
    *("-c:v", "libx264", "-crf", "16", "-x264-params"),
    "open-gop=1:bframes=8:b-adapt=0:keyint=25:min-keyint=25:scenecut=0",
)
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "2", "-g", "25", "-bf", "2")
PRORES = ("-c:v", "prores_ks", "-profile:v", "standard")
MJPEG = ("-c:v", "mjpeg", "-q:v", "2", "-huffman", "optimal")
# Every frame can be the first.
SINGLE: tuple[Range, ...] = tuple((frame, frame + 1) for frame in range(90, 10, -3))
SPARSE = replace(PLAIN, frames=3000, rate=Fraction(5), gop=100_000, clicks=1.0)
MANY = replace(PLAIN, frames=600, rate=NTSC)


def _case(name: str, source: Any, **more: Any) -> Recipe:
    return Recipe(name=name, topic="coding", source=source, **more)


def _hundred_cuts(clip: Clip) -> tuple[Range, ...]:
    """Return a hundred and one segments all over a clip, each long enough to hold a click."""
    chance = random.Random(100)
    starts = [chance.randrange(clip.grid_frames - 20) for _ in range(101)]
    return tuple((start, start + chance.randrange(12, 20)) for start in starts)


CODING: tuple[Recipe, ...] = (
    _case("open GOPs", replace(PLAIN, open_gop=True)),
    _case("open GOPs, ts", replace(TS, open_gop=True)),
    *(
        _case(f"every frame the first, {name}", clip, segments=SINGLE, clicks=False)
        for name, clip in (
            ("open GOPs of 8 B-frames", replace(PLAIN, encoder=DEEP)),
            ("HEVC", replace(PLAIN, encoder=HEVC)),
            ("HEVC of open GOPs", replace(PLAIN, encoder=OPEN_HEVC)),
            ("HEVC of open GOPs, ts", replace(TS, encoder=OPEN_HEVC)),
            ("ts", TS),
        )
    ),
    _case("HEVC", replace(PLAIN, encoder=HEVC)),
    _case("VP9 in webm", replace(PLAIN, encoder=VP9, container="webm", audio_codec="libopus")),
    _case("MPEG-2, ts", replace(TS, encoder=MPEG2, audio_codec="mp2")),
    _case("flv", replace(PLAIN, container="flv")),
    _case(
        "one keyframe in ten minutes",
        SPARSE,
        segments=((2950, 2970), (20, 40), (1500, 1515)),
    ),
    _case("H.264 of keyframes alone", replace(PLAIN, gop=1, b_frames=0)),
    _case(
        "ProRes",
        replace(
            PLAIN,
            encoder=PRORES,
            container="mov",
            pixel_format="yuv422p10le",
            audio_codec="pcm_s16le",
        ),
    ),
    _case(
        "Motion JPEG",
        # JPEG is BT.601 of full range by its own standard, and says nothing else.
        replace(
            PLAIN,
            encoder=MJPEG,
            container="mov",
            colours=Stored("smpte170m", full_range=True, tagged=False),
            pixel_format="yuvj420p",
            audio_codec="pcm_s16le",
        ),
    ),
    *(
        _case(
            f"a hundred cuts{how}",
            MANY,
            segments=_hundred_cuts(MANY),
            joins=101,
            chunk_seconds=seconds,
        )
        for how, seconds in (("", None), (", in parts", 0.4))
    ),
    _case("parts", PLAIN, segments=((0, 100), (37, 90), (76, 100)), chunk_seconds=1.0),
    _case(
        "parts, 29.97 frames a second, ts",
        replace(TS, rate=NTSC, frames=150),
        segments=((0, 150), (37, 90)),
        chunk_seconds=1.0,
    ),
    _case("whole source", PLAIN, segments=None),
    _case("whole source, ts", TS, segments=None),
    _case("whole source, mkv", replace(PLAIN, container="mkv"), segments=None),
)
