"""Files whose timestamps go backwards, or that are not as long as they say."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import av

from tests.media.frame_codes import Clip
from tests.media.recipes.boxes import box, edited
from tests.media.recipes.recipe import PLAIN, Changed, Edit, Recipe

MKV = replace(PLAIN, container="mkv")
# Shown in the order in which they are stored.
IN_ORDER = replace(PLAIN, b_frames=0)
MEDIA = (b"moov", b"trak", b"mdia")
# Pictures that are said to be so many earlier than they are.
FIRST, LAST, EARLIER = 50, 60, 10


def _case(name: str, source: Any, **more: Any) -> Recipe:
    return Recipe(name=name, topic="broken", source=source, **more)


def _changed(clip: Clip, how: Edit) -> Changed:
    return Changed(of=(clip,), how=how, container=clip.container)


def _pictures(content: bytes) -> list[int]:
    """Return where each picture of a file is stored, in order."""
    with av.open(io.BytesIO(content), "r") as file:
        return [packet.pos for packet in file.demux(video=0) if packet.pos is not None]


def _earlier_mkv(content: bytes) -> bytes:
    """An mkv some of whose pictures go back by 400 ms."""
    changed = bytearray(content)
    for place in _pictures(content)[FIRST:LAST]:
        # A block: its track, and when it is shown, in milliseconds from its cluster's time.
        (time,) = struct.unpack(">h", content[place + 1 : place + 3])
        changed[place + 1 : place + 3] = struct.pack(">h", time - 40 * EARLIER)
    return bytes(changed)


def _earlier_ts(content: bytes) -> bytes:
    """A transport stream some of whose pictures go back by 400 ms."""
    changed = bytearray(content)
    for place in _pictures(content)[FIRST:LAST]:
        start = content.index(b"\0\0\1\xe0", place)
        flags = content[start + 7]
        for at in [start + 9] + [start + 14] * (flags >> 6 & 1):
            time = _clock(content[at : at + 5]) - 3600 * EARLIER
            changed[at : at + 5] = _coded(content[at] >> 4, time)
    return bytes(changed)


def _clock(field: bytes) -> int:
    """Return a time of 33 bits, ISO/IEC 13818-1 §2.4.3.6."""
    whole = int.from_bytes(field, "big")
    return (whole >> 33 & 7) << 30 | (whole >> 17 & 0x7FFF) << 15 | whole >> 1 & 0x7FFF


def _coded(mark: int, time: int) -> bytes:
    whole = mark << 36 | (time >> 30 & 7) << 33 | (time >> 15 & 0x7FFF) << 17
    return (whole | (time & 0x7FFF) << 1 | 1 << 32 | 1 << 16 | 1).to_bytes(5, "big")


def _earlier_mp4(content: bytes) -> bytes:
    """An mp4 whose pictures go back by 400 ms once, and ahead again."""

    def times(old: bytes) -> bytes:
        ticks = int.from_bytes(old[20:24], "big")
        back = (1 - EARLIER) * ticks
        runs = [
            *((FIRST - 1, ticks), (1, back), (LAST - FIRST - 1, ticks)),
            *((1, (1 + EARLIER) * ticks), (PLAIN.frames - LAST, ticks)),
        ]
        entries = b"".join(struct.pack(">Ii", count, each) for count, each in runs)
        return box(b"stts", bytes(4) + len(runs).to_bytes(4, "big") + entries)

    return edited(content, (*MEDIA, b"minf", b"stbl", b"stts"), times)


def _mp4_lasts(factor: float) -> Edit:
    """Make the heads of an mp4 say that it lasts so many times as long as it does."""

    def stretched(place: int, old: bytes) -> bytes:
        value = round(int.from_bytes(old[place : place + 4], "big") * factor)
        return old[:place] + value.to_bytes(4, "big") + old[place + 4 :]

    def changed(content: bytes) -> bytes:
        content = edited(content, (b"moov", b"mvhd"), partial(stretched, 24))
        content = edited(content, (b"moov", b"trak", b"tkhd"), partial(stretched, 28))
        return edited(content, (*MEDIA, b"mdhd"), partial(stretched, 24))

    return changed


def _mkv_lasts(factor: float) -> Edit:
    """Make an mkv say that it lasts so many times as long as it does."""

    def changed(content: bytes) -> bytes:
        at = content.index(bytes.fromhex("448988")) + 3
        (length,) = struct.unpack(">d", content[at : at + 8])
        return content[:at] + struct.pack(">d", length * factor) + content[at + 8 :]

    return changed


HELD = [*range(FIRST - 1), *[LAST - 1] * (EARLIER + 1), *range(LAST, PLAIN.frames)]
BACK_TS = _changed(replace(IN_ORDER, container="ts"), _earlier_ts)
MISLEADING: tuple[Recipe, ...] = (
    *(
        _case(
            f"timestamps go back, {clip.container}",
            _changed(clip, how),
            shows=PLAIN,
            segments=None,
            numbers=HELD,
        )
        for clip, how in (
            (IN_ORDER, _earlier_mp4),
            (replace(IN_ORDER, container="mkv"), _earlier_mkv),
        )
    ),
    # The clock jumps back, by its pictures, and ahead again: all are shown, in their order.
    _case(
        "timestamps go back, ts",
        BACK_TS,
        shows=PLAIN,
        segments=None,
        numbers=[*range(LAST), *[LAST - 1] * EARLIER, *range(LAST, PLAIN.frames)],
        clicks=False,
    ),
    _case(
        "timestamps go back, ts, after it",
        BACK_TS,
        shows=PLAIN,
        starts=Fraction(-EARLIER, 25),
        segments=((72, 85), (90, 110)),
    ),
    *(
        _case(f"says that it lasts {words}, {clip.container}{how}", source, shows=PLAIN, **more)
        for words, clip, source in (
            ("a tenth as long", PLAIN, _changed(PLAIN, _mp4_lasts(0.1))),
            ("a tenth as long", MKV, _changed(MKV, _mkv_lasts(0.1))),
            ("a hundred times as long", PLAIN, _changed(PLAIN, _mp4_lasts(100))),
            ("a hundred times as long", MKV, _changed(MKV, _mkv_lasts(100))),
        )
        for how, more in (("", {}), (", whole", {"segments": None}))
    ),
)
