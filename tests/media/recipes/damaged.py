"""Files some of whose media cannot be decoded: all of the rest is exported, and the owner told."""

from __future__ import annotations

import io
import random
from functools import partial
from typing import Any

import av

from tests.media.recipes.broken import MKV, TS
from tests.media.recipes.recipe import PLAIN, Changed, Edit, Recipe

TOLD = ("SOURCE_DAMAGED",)


def _case(name: str, clip: Any, how: Edit, **more: Any) -> Recipe:
    source = Changed(of=(clip,), how=how, container=clip.container)
    return Recipe(name=name, topic="broken", source=source, shows=clip, **more)


def _flipped(count: int, content: bytes) -> bytes:
    """A file with single bits of its media flipped, the same ones each time."""
    chance = random.Random(count)
    changed = bytearray(content)
    start, end = len(content) // 4, len(content) * 3 // 4
    for _ in range(count):
        changed[chance.randrange(start, end)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _flip(count: int) -> Edit:
    return partial(_flipped, count)


def _sound_flipped(count: int, content: bytes) -> bytes:
    """A file with single bits of its sound flipped, the same ones each time."""
    chance = random.Random(count)
    changed = bytearray(content)
    with av.open(io.BytesIO(content), "r") as file:
        # A transport stream's packets begin with a head of its own.
        ahead = 30 if "mpegts" in file.format.name else 8
        sounds = [
            (packet.pos + ahead, packet.size - ahead)
            for packet in file.demux(audio=0)
            if packet.pos is not None and packet.size > 60
        ]
    for start, size in chance.sample(sounds[len(sounds) // 4 : len(sounds) * 3 // 4], count):
        changed[start + chance.randrange(min(size, 100))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _packets_lost(content: bytes) -> bytes:
    """A transport stream without thirty of its packets, from the middle on."""
    middle = len(content) // 2 // 188 * 188
    return content[:middle] + content[middle + 30 * 188 :]


DAMAGED: tuple[Recipe, ...] = (
    *(
        _case(
            f"{count} bit{'s' * (count > 1)} flipped, {clip.container}",
            clip,
            _flip(count),
            # A single bit may be one that nothing is made of.
            codes=() if (count, clip) == (1, PLAIN) else TOLD,
            least_right=0.5,
            joins=0,
        )
        for count in (1, 20)
        for clip in (PLAIN, TS, MKV)
    ),
    _case(
        "bits flipped elsewhere than what is wanted",
        PLAIN,
        _flip(20),
        segments=((0, 20), (5, 15)),
    ),
    *(
        _case(
            f"bits flipped in the sound alone, {clip.container}",
            clip,
            partial(_sound_flipped, 3),
            segments=None,
            codes=TOLD,
        )
        for clip in (PLAIN, TS, MKV)
    ),
    _case("packets lost, ts", TS, _packets_lost, segments=None, codes=TOLD, least_right=0.5),
)
