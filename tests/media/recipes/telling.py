"""What sources say of themselves: what outputs say, too, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from tests.media.recipes.recipe import PLAIN, Changed, Recipe, Remade, Told
from videoexport.v1 import export_pb2 as pb

LANGUAGES = ("-metadata:s:v:0", "language=ita", "-metadata:s:a:0", "language=deu")
# In an mp4 and an mkv alike.
KEPT = {"title": "Holiday; part = 2", "artist": "Ann", "comment": "one line\nand another"}
CREATED = {"creation_time": "2024-05-06T07:08:09.000000Z"}
PLACE = {"com.apple.quicktime.location.ISO6709": "+48.8577+002.295/", "make": "Maker"}
# Of a clip of four seconds.
CHAPTERS = ((0, 1, "One"), (1, 2, "Two # 2"), (2, 4, "Three"))
# Where the cuts of most cases show them, in frames of the output.
SHOWN = (
    (0, 1, "One"),
    (1, 16, "Two # 2"),
    (16, 26, "Three"),
    (26, 37, "One"),
    (37, 48, "One"),
    (48, 72, "Three"),
)


def source(
    container: str,
    tags: Mapping[str, str],
    *more: str,
    chapters: Sequence[tuple[float, float, str]] = (),
) -> Remade:
    """Return a clip that says something of itself."""

    def text() -> bytes:
        lines = [";FFMETADATA1", *(f"{key}={_escaped(value)}" for key, value in tags.items())]
        for start, end, title in chapters:
            lines += ["[CHAPTER]", "TIMEBASE=1/1000"]
            lines += [f"START={start * 1000:.0f}", f"END={end * 1000:.0f}"]
            lines += [f"title={_escaped(title)}"]
        return "\n".join([*lines, ""]).encode()

    return Remade(
        of=(PLAIN, Changed(of=(), how=text, container="txt")),
        before={1: ("-f", "ffmetadata")},
        arguments=(
            *("-map", "0", "-c", "copy", "-map_metadata", "1", "-map_chapters", "1"),
            *(*LANGUAGES, *more),
        ),
        container=container,
    )


def _escaped(text: str) -> str:
    for char in "\\=;#\n":
        text = text.replace(char, f"\\{char}")
    return text


def _case(name: str, made: Remade, told: Told, **more: Any) -> Recipe:
    return Recipe(name=name, topic="metadata", source=made, shows=PLAIN, told=told, **more)


ALL_KEPT = Told(tags={**KEPT, **CREATED}, chapters=SHOWN, languages=("ita", "deu"))
LOUD = pb.ExportSettings(loudness_lufs=-20)

TELLING: tuple[Recipe, ...] = (
    _case(
        "chapters and tags, mp4", source("mp4", {**KEPT, **CREATED}, chapters=CHAPTERS), ALL_KEPT
    ),
    _case(
        "chapters and tags, mkv", source("mkv", {**KEPT, **CREATED}, chapters=CHAPTERS), ALL_KEPT
    ),
    _case(
        "chapters and tags, in parts",
        source("mp4", {**KEPT, **CREATED}, chapters=CHAPTERS),
        ALL_KEPT,
        chunk_seconds=0.8,
    ),
    _case(
        "chapters at another frame rate",
        source("mp4", KEPT, chapters=CHAPTERS),
        Told(
            tags=KEPT,
            chapters=((0, 23, "One"), (23, 53, "Two # 2"), (53, 83, "Three")),
            languages=("ita", "deu"),
        ),
        settings=pb.ExportSettings(frame_rate=pb.Rational(numerator=30000, denominator=1001)),
        segments=((7, 90),),
        rate=Fraction(30000, 1001),
    ),
    _case(
        "chapters with gaps",
        source("mkv", {}, chapters=((0.4, 1, "One"), (2, 4, "Three"))),
        Told(
            chapters=((0, 10, ""), (10, 25, "One"), (25, 50, ""), (50, 100, "Three")),
            languages=("ita", "deu"),
        ),
        segments=None,
    ),
    _case(
        "place and device are dropped",
        source("mov", {**KEPT, **PLACE}, "-movflags", "use_metadata_tags"),
        # A mov has numbers for languages, and FFmpeg writes none for German.
        Told(tags=KEPT, languages=("ita", "")),
    ),
    _case(
        "place and device are kept on request",
        source("mov", {**KEPT, **PLACE}, "-movflags", "use_metadata_tags"),
        Told(tags={**KEPT, **PLACE}, languages=("ita", "")),
        settings=pb.ExportSettings(keep_location_and_device=True),
    ),
    _case(
        "text that is no text",
        source("mkv", {"title": "\x1b[2Jred\u202etxt", "artist": "x" * 3000, "xmp": "<x/>"}),
        Told(tags={"title": "[2Jredtxt", "artist": "x" * 1000}, languages=("ita", "deu")),
    ),
)
