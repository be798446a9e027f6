"""Sources whose pictures and sound begin and end anywhere, by timestamps and by edit lists."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

from tests.media.recipes.boxes import box, edited
from tests.media.recipes.recipe import PLAIN, Changed, Recipe, Remade

TS = replace(PLAIN, container="ts")
FRAGMENTED = ("-movflags", "frag_keyframe+empty_moov+default_base_moof")


def _case(name: str, source: Any, **more: Any) -> Recipe:
    return Recipe(name=name, topic="time", source=source, **more)


def _two_edits(content: bytes) -> bytes:
    """An mp4 that is shown from 0 to 1 and from 2 to 3 s, by its edit lists."""

    head = content.index(b"mvhd")
    second = int.from_bytes(content[head + 16 : head + 20], "big")

    def edits(ticks: int, old: bytes) -> bytes:
        # One edit so far: how long it lasts, where in the track it begins, how fast it plays.
        begins = int.from_bytes(old[20:24], "big")
        entries = b"".join(
            struct.pack(">IiI", second, begins + seconds * ticks, 1 << 16) for seconds in (0, 2)
        )
        return box(b"elst", bytes(4) + (2).to_bytes(4, "big") + entries)

    for track, ticks in enumerate((12_800, 48_000)):
        path = (b"moov", b"trak", b"edts", b"elst")
        content = edited(content, path, partial(edits, ticks), track=track)
    return content


def _priming(content: bytes) -> bytes:
    """An mp4 whose sound begins 2,112 samples into its track by its edit list, as Apple's do."""

    def later(old: bytes) -> bytes:
        assert old[20:24] == (1024).to_bytes(4, "big")
        return old[:20] + (2112).to_bytes(4, "big") + old[24:]

    return edited(content, (b"moov", b"trak", b"edts", b"elst"), later, track=1)


STARTS: tuple[Recipe, ...] = (
    _case("first timestamp 1.5 s, mkv", replace(PLAIN, container="mkv", first_frame_time=1.5)),
    _case("first timestamp 1.5 s, ts", replace(TS, first_frame_time=1.5)),
    _case(
        "delayed by an empty edit",
        Remade(
            of=(PLAIN, PLAIN),
            before={0: ("-itsoffset", "0.52")},
            arguments=("-map", "0:v", "-map", "1:a", "-c", "copy"),
        ),
        shows=replace(PLAIN, audio_delay=-0.52),
        silent=((3.48, 4.0),),
    ),
    *(
        _case(
            f"pictures begin 0.52 s late, {container}",
            Remade(
                of=(PLAIN, PLAIN),
                before={0: ("-itsoffset", "0.52")},
                arguments=("-map", "0:v", "-map", "1:a", "-c", "copy"),
                container=container,
            ),
            shows=replace(PLAIN, audio_delay=-0.52, container=container),
            silent=((3.48, 4.0),),
        )
        for container in ("mkv", "ts")
    ),
    _case(
        "pictures shown before they are decoded, by negative offsets",
        Remade(of=(PLAIN,), arguments=("-c", "copy", "-movflags", "negative_cts_offsets")),
        shows=PLAIN,
    ),
    _case(
        "begins within a GOP by its edit list",
        Remade(of=(PLAIN,), before={0: ("-ss", "0.48")}),
        shows=PLAIN,
        starts=Fraction(12, 25),
        segments=((0, 16), (30, 50), (9, 20), (60, 80)),
    ),
    _case(
        "begins within a GOP by its edit list, in parts",
        Remade(of=(PLAIN,), before={0: ("-ss", "0.48")}),
        shows=PLAIN,
        starts=Fraction(12, 25),
        segments=((0, 40), (20, 80)),
        chunk_seconds=0.8,
    ),
    _case(
        "two edits, from 0 and from 2 s",
        Changed(of=(PLAIN,), how=_two_edits),
        shows=PLAIN,
        segments=None,
        numbers=[*range(25), *range(50, 75)],
        clicks=False,
    ),
    _case(
        "B-frames without an edit list",
        Remade(of=(PLAIN,), arguments=("-c", "copy", "-use_editlist", "0")),
        shows=PLAIN,
    ),
    _case(
        "sound begins 2,112 samples into its track",
        Changed(
            of=(
                Remade(
                    of=(PLAIN,),
                    arguments=("-c:v", "copy", "-af", "adelay=1088S:all=1", "-c:a", "aac"),
                ),
            ),
            how=_priming,
        ),
        shows=PLAIN,
    ),
    _case("sound begins 1.5 s late", replace(PLAIN, audio_delay=1.5), joins=1),
    _case("sound begins 1.5 s late, ts", replace(TS, audio_delay=1.5), joins=1),
    _case(
        "sound ends early",
        Remade(
            of=(PLAIN, PLAIN),
            before={1: ("-t", "2")},
            arguments=("-map", "0:v", "-map", "1:a", "-c", "copy"),
        ),
        shows=PLAIN,
        silent=((2.0, 4.0),),
    ),
    *(
        _case(
            f"sound has a hole, {container}",
            Remade(
                of=(PLAIN,),
                # From 1.28 to 1.71 s.
                arguments=("-c", "copy", "-bsf:a", r"noise=drop=between(n\,60\,80)"),
                container=container,
            ),
            shows=PLAIN,
            silent=((1.25, 1.75),),
        )
        for container in ("mp4", "mkv", "ts")
    ),
    _case(
        "pictures end early",
        Remade(
            of=(PLAIN,),
            arguments=("-c", "copy", "-frames:v", "50"),
        ),
        shows=PLAIN,
        segments=None,
        numbers=range(50),
    ),
    _case("fragments", replace(PLAIN, muxer=FRAGMENTED)),
)
