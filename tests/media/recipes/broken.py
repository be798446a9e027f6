"""Broken, hostile and odd files: exported as far as they go, or refused for a reason."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

from tests.media.recipes.boxes import box, edited
from tests.media.recipes.recipe import PLAIN, Changed, Edit, Recipe, Refused, Remade
from tests.media.recipes.timing import VP9
from videoexport.v1 import export_pb2 as pb

IN_FRONT = replace(PLAIN, muxer=("-movflags", "+faststart"))
TS = replace(PLAIN, container="ts")
MKV = replace(PLAIN, container="mkv")
WEBM = replace(PLAIN, container="webm", encoder=VP9, audio_codec="libopus")
FLV = replace(PLAIN, container="flv")
MUTE = replace(PLAIN, clicks=None)
NO_PICTURE = Refused(reason="INVALID_SOURCE", words="no picture of the video can be decoded")
UNSUPPORTED = Refused(reason="INVALID_SOURCE", words="not a video in a supported format")
INCOMPLETE = Refused(reason="INVALID_SOURCE", words="incomplete")
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


def _coded(container: str, *codec: str) -> Remade:
    return Remade(of=(PLAIN,), arguments=("-c:v", *codec), container=container)


AVI = _coded("avi", "mpeg4", "-q:v", "2", "-c:a", "libmp3lame")
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
    _refused("media cut off, webm", _changed(WEBM, _cut(0.7)), INCOMPLETE),
    _case(
        "media cut off, webm, what is there",
        _changed(WEBM, _cut(0.7)),
        shows=WEBM,
        segments=((0, 40), (50, 60), (9, 20)),
    ),
    # Nothing says how long it is.
    _case(
        "cut off, flv",
        _changed(FLV, _cut(0.7)),
        shows=FLV,
        segments=None,
        codes=("SOURCE_DAMAGED",),
        least_right=0.9,
    ),
    _case(
        "cut off, flv, what is there",
        _changed(FLV, _cut(0.7)),
        shows=FLV,
        segments=((0, 40), (50, 60), (9, 20)),
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
        UNSUPPORTED,
    ),
    # Formats that are not read.
    _refused("AVI", AVI, UNSUPPORTED),
    _refused(
        "AVI without its index",
        Changed(of=(AVI,), how=_cut(0.9), container="avi"),
        UNSUPPORTED,
    ),
    _refused("Ogg", _coded("ogv", "libtheora", "-q:v", "10", "-c:a", "libvorbis"), UNSUPPORTED),
    _refused("MXF", _coded("mxf", "mpeg2video", "-q:v", "2", "-c:a", "pcm_s16le"), UNSUPPORTED),
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
    _refused("no index, mp4", _changed(PLAIN, _without(b"moov")), INCOMPLETE),
    _case(
        "no index, mkv",
        Remade(of=(MKV,), arguments=("-c", "copy", "-live", "1"), container="mkv"),
        shows=MKV,
    ),
    _case(
        "an empty track of sound beside the other", _changed(PLAIN, _with_empty_track), shows=PLAIN
    ),
    _refused(
        "a track of pictures without any, mp4",
        _changed(PLAIN, _no_samples),
        NO_PICTURE,
    ),
    *(
        _refused(
            f"a track of pictures without any, {container}",
            Remade(
                of=(PLAIN,),
                arguments=("-c", "copy", "-bsf:v", "noise=drop=1"),
                container=container,
            ),
            NO_PICTURE,
        )
        for container in ("mkv", "ts", "flv")
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
