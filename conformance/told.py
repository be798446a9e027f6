"""Whether an output says of itself what its case says. Reads the file; the check is pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.subtitles.subtitle import AssSubtitle

from tests.media.recipes.recipe import Told

# What the muxer itself says of every file.
_OF_THE_FORMAT = {"major_brand", "minor_version", "compatible_brands"}
# Of one kind of place, FFmpeg says what it means in another way, too.
_SAID_AGAIN = {"location", "location-eng"}


@dataclass(frozen=True, slots=True)
class Says:
    """What a file says of itself.

    Attributes:
        chapters: from and to in seconds, and the title.
        languages: of its pictures and its sound; empty where they are not said.
        subtitles: from and to in seconds, and the text.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[tuple[Fraction, Fraction, str], ...] = ()
    languages: tuple[str, ...] = ()
    subtitles: tuple[tuple[float, float, str], ...] = ()


def read_told(path: Path) -> Says:
    """Read what a file says of itself."""
    with av.open(str(path)) as file:
        beside = _OF_THE_FORMAT | _SAID_AGAIN
        tags = {key: value for key, value in file.metadata.items() if key not in beside}
        chapters = tuple(
            (
                chapter["start"] * Fraction(chapter["time_base"] or 0),
                chapter["end"] * Fraction(chapter["time_base"] or 0),
                chapter["metadata"].get("title", ""),
            )
            for chapter in file.chapters()
        )
        streams = [*file.streams.video, *file.streams.audio]
        languages = [stream.metadata.get("language", "") for stream in streams]
    named = tuple("" if tag == "und" else tag for tag in languages)
    return Says(tags, chapters, named, read_subtitles(path))


def read_subtitles(path: Path) -> tuple[tuple[float, float, str], ...]:
    """Read the text of a file, with its italics as SubRip writes them."""
    with av.open(str(path)) as file:
        found = []
        for stream in file.streams.subtitles[:1]:
            for packet in file.demux(stream):
                texts = stream.decode(packet) if packet.size else []
                for rectangle in (each for each in texts if isinstance(each, AssSubtitle)):
                    tick = float(packet.time_base or 0)
                    start, length = (packet.pts or 0) * tick, (packet.duration or 0) * tick
                    text = rectangle.dialogue.decode()
                    text = text.replace("{\\i1}", "<i>")
                    found.append((start, start + length, text))
    return tuple(found)


def subtitle_problems(
    wanted: Sequence[tuple[float, float, str]], found: Sequence[tuple[float, float, str]]
) -> list[str]:
    """Return whether each text is there when it is due, to the millisecond, and no other one."""
    there = [(round(start, 3), round(end, 3), text) for start, end, text in found]
    return [] if there == list(wanted) else [f"has the subtitles {there} instead of {list(wanted)}"]


def told_problems(told: Told, says: Says, rate: Fraction) -> list[str]:
    """Return what is wrong with what a file says of itself."""
    problems = []
    if dict(says.tags) != dict(told.tags):
        problems.append(f"says {dict(says.tags)} instead of {dict(told.tags)}")
    wanted = tuple((start / rate, end / rate, title) for start, end, title in told.chapters)
    if says.chapters != wanted:
        found = [(float(a), float(b), title) for a, b, title in says.chapters]
        problems.append(f"has the chapters {found} instead of {list(told.chapters)} in frames")
    if says.languages != tuple(told.languages):
        problems.append(f"is in {says.languages} instead of {tuple(told.languages)}")
    return problems
