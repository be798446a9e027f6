"""Subtitles, kept or drawn, where the segments show them."""

from __future__ import annotations

from typing import Any

from tests.media.recipes.recipe import PLAIN, Changed, Recipe, Refused, Remade
from videoexport.v1 import export_pb2 as pb

STREAM = 2
# Of a clip of four seconds; one begins between two frames, two are there at the same time.
TEXT = b"""1
00:00:00,400 --> 00:00:01,200
<i>One</i>

2
00:00:01,300 --> 00:00:02,200
Two
lines

3
00:00:02,000 --> 00:00:03,400
Three
"""
LINES = Changed(of=(), how=lambda: TEXT, container="srt")
# What the cuts of most cases show of it, in seconds and in frames of the output.
KEPT = (
    (0.0, 0.24, "<i>One"),
    (0.34, 0.64, "Two\nlines"),
    (0.64, 0.84, "Two\nlines\nThree"),
    (0.84, 1.04, "Three"),
    (1.08, 1.48, "<i>One"),
    (1.52, 1.92, "<i>One"),
    (1.92, 2.28, "Three"),
)
# An mp4 has no two at the same time.
OF_AN_MP4 = (*KEPT[:2], (0.64, 1.04, "Three"), *KEPT[4:])
DRAWN = ((0, 6), (9, 26), (27, 37), (38, 57))
KEEP, BURN_IN = pb.SUBTITLE_MODE_KEEP, pb.SUBTITLE_MODE_BURN_IN


def source(codec: str, container: str = "mkv") -> Remade:
    """Return a clip with subtitles beside pictures and sound."""
    video: tuple[str, ...] = ("-c", "copy")
    if container == "webm":
        video = ("-c:v", "libvpx-vp9", "-crf", "6", "-b:v", "0", "-g", "25", "-c:a", "libopus")
        video += ("-deadline", "realtime", "-cpu-used", "8")
    return Remade(
        of=(PLAIN, LINES),
        arguments=(
            *("-map", "0", "-map", "1", *video, "-c:s", codec),
            *("-metadata:s:s:0", "language=deu", "-disposition:s:0", "0"),
        ),
        container=container,
    )


def _case(name: str, made: Remade, mode: pb.SubtitleMode.ValueType, **more: Any) -> Recipe:
    settings = pb.ExportSettings(subtitles=pb.SubtitleSettings(stream=STREAM, mode=mode))
    given: dict[str, Any] = {"settings": settings}
    given |= {"subtitles": KEPT} if mode == KEEP else {"drawn": DRAWN}
    return Recipe(name=name, topic="subtitles", source=made, shows=PLAIN, **(given | more))


SUBTITLES: tuple[Recipe, ...] = (
    _case("kept, mov_text of an mp4", source("mov_text", "mp4"), KEEP, subtitles=OF_AN_MP4),
    *(_case(f"kept, {codec} of an mkv", source(codec), KEEP) for codec in ("srt", "ass", "webvtt")),
    _case("kept, of a webm", source("webvtt", "webm"), KEEP),
    _case("kept, in parts", source("srt"), KEEP, chunk_seconds=0.8),
    _case("burnt in, mov_text of an mp4", source("mov_text", "mp4"), BURN_IN),
    _case("burnt in, srt of an mkv", source("srt"), BURN_IN),
    _case("burnt in, webvtt of an mkv", source("webvtt"), BURN_IN),
    # Of two at the same time libass leaves the later one above, where there are no letters looked
    # for.
    _case(
        "burnt in, ass of an mkv",
        source("ass"),
        BURN_IN,
        drawn=((0, 6), (9, 21), (27, 37), (38, 57)),
    ),
    _case("burnt in, in parts", source("srt"), BURN_IN, chunk_seconds=0.8),
    _case(
        "a stream that is none of subtitles",
        source("srt"),
        KEEP,
        settings=pb.ExportSettings(subtitles=pb.SubtitleSettings(stream=1)),
        refused=Refused(reason="INVALID_REQUEST", words=r"no subtitles 1; there is 2 \(srt, deu\)"),
    ),
)
