"""Broken, hostile and odd files: exported as far as they go, or refused for a reason."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

from tests.media.recipes.boxes import box, edited
from tests.media.recipes.recipe import PLAIN, Changed, Edit, Recipe, Refused, Remade
from videoexport.v1 import export_pb2 as pb

IN_FRONT = replace(PLAIN, muxer=("-movflags", "+faststart"))
TS = replace(PLAIN, container="ts")
MKV = replace(PLAIN, container="mkv")
MUTE = replace(PLAIN, clicks=None)
NO_PICTURE = Refused(reason="INVALID_SOURCE", words="no picture of the video can be decoded")
INCOMPLETE = Refused(reason="INVALID_SOURCE", words="incomplete")
DAMAGED = ("SOURCE_DAMAGED",)
TRACK = (b"moov", b"trak")
MEDIA = (*TRACK, b"mdia")
TABLES = (*MEDIA, b"minf", b"stbl")


def _case(name: str, source: Any, **more: Any) -> Recipe:
    return Recipe(name=name, topic="broken", source=source, **more)


def _refused(name: str, source: Any, refused: Refused) -> Recipe:
    return _case(name, source, shows=PLAIN, segments=None, refused=refused)


def _first(share: float, content: bytes) -> bytes:
    return content[: int(len(content) * share)]


def _cut(share: float) -> Edit:
    """Keeps so much of a file's beginning."""
    return partial(_first, share)


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


def _long(content: bytes) -> bytes:
    """An mp4 whose heads say that it lasts a hundred times as long as it does."""

    def stretched(place: int, old: bytes) -> bytes:
        value = int.from_bytes(old[place : place + 4], "big") * 100
        return old[:place] + value.to_bytes(4, "big") + old[place + 4 :]

    content = edited(content, (b"moov", b"mvhd"), partial(stretched, 24))
    content = edited(content, (*TRACK, b"tkhd"), partial(stretched, 28))
    return edited(content, (*MEDIA, b"mdhd"), partial(stretched, 24))


def _without(*path: bytes) -> Edit:
    """An mp4 without a box."""
    return lambda content: edited(content, path, lambda _old: b"")


def _no_samples(content: bytes) -> bytes:
    """An mp4 whose first track has no samples."""
    for name, size in ((b"stts", 8), (b"stss", 8), (b"ctts", 8), (b"stsc", 8), (b"stco", 8)):
        content = edited(content, (*TABLES, name), partial(_empty, name, size))
    return edited(content, (*TABLES, b"stsz"), partial(_empty, b"stsz", 12))


def _empty(name: bytes, size: int, _old: bytes) -> bytes:
    return box(name, bytes(size))


def _with_empty_track(content: bytes) -> bytes:
    """An mp4 with a track of sound beside its others that has no samples."""
    start = content.rindex(b"trak") - 4
    size = int.from_bytes(content[start : start + 4], "big")
    track = content[start : start + size]
    inside = (b"trak", b"mdia", b"minf", b"stbl")
    for name, length in ((b"stts", 8), (b"stsc", 8), (b"stco", 8), (b"stsz", 12)):
        track = edited(track, (*inside, name), partial(_empty, name, length))
    at = track.index(b"tkhd") + 16
    track = track[:at] + (99).to_bytes(4, "big") + track[at + 4 :]
    return edited(content, (b"moov",), lambda old: box(b"moov", old[8:] + track))


def _ten_thousand_tracks(content: bytes) -> bytes:
    start = content.rindex(b"trak") - 4
    size = int.from_bytes(content[start : start + 4], "big")
    track = content[start : start + size]
    at = track.index(b"tkhd") + 16
    more = [track[:at] + n.to_bytes(4, "big") + track[at + 4 :] for n in range(3, 10_000)]
    return edited(content, (b"moov",), lambda old: box(b"moov", old[8:] + b"".join(more)))


def _no_size(content: bytes) -> bytes:
    """An mp4 of 0 × 0 pixels: neither its heads nor its codec's say more."""

    def entry(old: bytes) -> bytes:
        # 24 bytes into the entry, after its head of 8.
        sized = old[:32] + bytes(4) + old[36:]
        at = sized.index(b"avcC")
        return sized[: at + 9] + bytes(len(sized) - at - 9)

    def head(old: bytes) -> bytes:
        return old[:-8] + bytes(8)

    content = edited(content, (*TRACK, b"tkhd"), head)
    return edited(content, (*TABLES, b"stsd", b"avc1"), entry)


def _text(_content: bytes) -> bytes:
    return b"#EXTM3U\n#EXTINF:10,\nhttp://example.com/segment.ts\n#EXT-X-ENDLIST\n"


def _noise(content: bytes) -> bytes:
    return random.Random(1).randbytes(len(content))


def _changed(clip: Any, how: Edit) -> Changed:
    return Changed(of=(clip,), how=how, container=clip.container)


BROKEN: tuple[Recipe, ...] = (
    _refused("index cut off, mp4", _changed(PLAIN, _cut(0.7)), INCOMPLETE),
    _refused("media cut off, mp4", _changed(IN_FRONT, _cut(0.7)), INCOMPLETE),
    _case(
        "media cut off, mp4, what is there",
        _changed(IN_FRONT, _cut(0.7)),
        shows=PLAIN,
        segments=((0, 40), (50, 60), (9, 20)),
    ),
    _case(
        "media cut off, mp4, more than is there",
        _changed(IN_FRONT, _cut(0.7)),
        shows=PLAIN,
        segments=((0, 40), (50, 80)),
        refused=Refused(reason="INVALID_SEGMENTS", words=r"the source ends at 2\.\d+ s"),
    ),
    _refused("media cut off, mkv", _changed(MKV, _cut(0.7)), INCOMPLETE),
    _case(
        "media cut off, mkv, what is there",
        _changed(MKV, _cut(0.7)),
        shows=MKV,
        segments=((0, 40), (50, 60), (9, 20)),
    ),
    _case(
        "cut off, ts",
        _changed(TS, _cut(0.7)),
        shows=TS,
        segments=((0, 40), (50, 60), (9, 20)),
    ),
    _case(
        "cut off, mkv of a recording",
        _changed(replace(MKV, muxer=("-live", "1")), _cut(0.7)),
        shows=MKV,
        segments=((0, 40), (50, 60), (9, 20)),
    ),
    _refused("its first kilobyte alone", _changed(IN_FRONT, lambda old: old[:1024]), INCOMPLETE),
    _refused(
        "not a video",
        _changed(PLAIN, _noise),
        Refused(reason="INVALID_SOURCE", words="not a video in a supported format"),
    ),
    _refused(
        "a playlist",
        _changed(PLAIN, _text),
        Refused(reason="INVALID_SOURCE", words="playlist"),
    ),
    _refused(
        "empty",
        _changed(PLAIN, lambda _old: b""),
        Refused(reason="INVALID_SOURCE", words="empty"),
    ),
    *(
        _case(
            f"{count} bit{'s' * (count > 1)} flipped, {clip.container}",
            _changed(clip, _flip(count)),
            shows=clip,
            # A single bit may be one that nothing is made of.
            codes=() if (count, clip) == (1, PLAIN) else DAMAGED,
            least_right=0.5,
            joins=0,
        )
        for count in (1, 20)
        for clip in (PLAIN, TS, MKV)
    ),
    _case(
        "bits flipped elsewhere than what is wanted",
        _changed(PLAIN, _flip(20)),
        shows=PLAIN,
        segments=((0, 20), (5, 15)),
    ),
    _refused("no index, mp4", _changed(PLAIN, _without(b"moov")), INCOMPLETE),
    _case(
        "no index, mkv",
        Remade(of=(MKV,), arguments=("-c", "copy", "-live", "1"), container="mkv"),
        shows=MKV,
    ),
    _case("says that it lasts a hundred times as long", _changed(PLAIN, _long), shows=PLAIN),
    _case(
        "says that it lasts a hundred times as long, whole",
        _changed(PLAIN, _long),
        shows=PLAIN,
        segments=None,
        numbers=range(100),
    ),
    _case(
        "an empty track of sound beside the other", _changed(PLAIN, _with_empty_track), shows=PLAIN
    ),
    _refused(
        "a track of pictures without any",
        _changed(PLAIN, _no_samples),
        NO_PICTURE,
    ),
    _refused(
        "sound with a cover",
        Remade(
            of=(PLAIN,),
            arguments=(
                *("-f", "lavfi", "-i", "color=red:size=64x64:rate=1:duration=1"),
                *("-map", "0:a", "-map", "1:v", "-c:a", "copy", "-c:v", "mjpeg"),
                *("-disposition:v:0", "attached_pic"),
            ),
            container="m4a",
        ),
        Refused(reason="INVALID_SOURCE", words="sound but no pictures"),
    ),
    _case(
        "a video with a cover before it",
        Remade(
            of=(PLAIN,),
            arguments=(
                *("-f", "lavfi", "-i", "color=red:size=64x64:rate=1:duration=1"),
                *("-map", "1:v", "-map", "0:v", "-map", "0:a", "-c:v:0", "mjpeg"),
                *("-c:v:1", "copy", "-c:a", "copy", "-disposition:v:0", "attached_pic"),
            ),
        ),
        shows=PLAIN,
    ),
    _refused(
        "encrypted",
        Remade(
            of=(PLAIN,),
            arguments=(
                *("-c", "copy", "-encryption_scheme", "cenc-aes-ctr"),
                *("-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb"),
                *("-encryption_kid", "a7e61c373e219033c21091fa607bf3b8"),
            ),
        ),
        Refused(reason="INVALID_SOURCE", words="encrypted"),
    ),
    _refused(
        "larger than 8192 pixels",
        Remade(
            arguments=(
                *("-f", "lavfi", "-i", "color=gray:size=8208x64:rate=25:duration=0.2"),
                *("-c:v", "libx264", "-preset", "ultrafast"),
            ),
        ),
        Refused(reason="INVALID_SOURCE", words="at most 8192 × 8192"),
    ),
    _case(
        "7680 × 4320",
        Remade(
            of=(replace(PLAIN, frames=8),),
            arguments=(
                *("-vf", "scale=7680:4320:flags=neighbor", "-c:a", "copy"),
                *("-c:v", "libx264", "-preset", "ultrafast", "-qp", "20", "-threads", "1"),
            ),
        ),
        shows=replace(PLAIN, frames=8),
        segments=((2, 8),),
        joins=0,
        clicks=False,
    ),
    _refused("0 × 0 pixels", _changed(PLAIN, _no_size), NO_PICTURE),
    _refused(
        "10,000 tracks",
        _changed(PLAIN, _ten_thousand_tracks),
        Refused(reason="INVALID_SOURCE", words="tracks"),
    ),
    _case(
        "three hours of one picture",
        replace(MUTE, frames=2, durations=(60_000,), rate=Fraction(5)),
        settings=pb.ExportSettings(frame_rate=pb.Rational(numerator=25, denominator=1)),
        segments=((0, 10), (299_995, 300_005)),
        rate=Fraction(25),
        sound=False,
        clicks=False,
    ),
)
