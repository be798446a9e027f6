"""Pictures that consist of two fields: shown without combs, one for one, at the source's rate."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from tests.media.corner_marks import Stored
from tests.media.recipes.recipe import PLAIN, Changed, Recipe, Remade
from tests.media.recipes.timing import FILM, NTSC

MPEG2 = ("-c:v", "mpeg2video", "-q:v", "2", "-g", "25", "-bf", "2")
INTERLACED = ("-c:v", "libx264", "-crf", "12", "-flags", "+ilme+ildct", "-c:a", "copy")
# 50 pictures a second, a field of each: two in a frame.
MOMENTS = replace(PLAIN, frames=200, rate=Fraction(50), gop=50)
PAL = Fraction(25)


def _case(name: str, source: Any, **more: Any) -> Recipe:
    return Recipe(name=name, topic="fields", source=source, **more)


def _interlaced(
    first: str, *codec: str, container: str = "mp4", of: Any = MOMENTS, and_then: str = ""
) -> Remade:
    # Of each two pictures the first field of one and the second of the other.
    order = {"tff": "top", "bff": "bottom"}[first]
    filters = (
        f"setfield={first},separatefields,select=eq(mod(n\\,4)\\,0)+eq(mod(n\\,4)\\,3),"
        f"weave=first_field={order},setfield={first},setpts=N/25/TB{and_then}"
    )
    return Remade(of=(of,), arguments=("-vf", filters, *codec), container=container)


def _x264_fields(first: str) -> tuple[str, ...]:
    return (*INTERLACED, "-x264-params", f"{first}=1:keyint=25:scenecut=0")


def _with_repeats(content: bytes) -> bytes:
    """An MPEG-2 stream of film that says which fields a television is to show twice.

    Of four pictures the second and the fourth, ISO/IEC 13818-2 §6.3.10: they last 10 fields.
    """
    changed = bytearray(content)
    pictures = 0
    at = -1
    while (at := content.find(b"\0\0\1", at + 1)) >= 0:
        kind, body = content[at + 3], at + 4
        if kind == 0xB3:  # the sequence: 29.97 frames a second
            changed[body + 3] = changed[body + 3] & 0xF0 | 4
        elif kind == 0xB5 and content[body] >> 4 == 1:  # its frames are not all progressive
            changed[body + 1] &= ~0x08
        elif kind == 0xB5 and content[body] >> 4 == 8:  # the next picture
            top_first, repeated = pictures % 4 < 2, pictures % 2 == 1
            changed[body + 3] = changed[body + 3] & 0x7D | top_first << 7 | repeated << 1
            changed[body + 4] |= 0x80
            pictures += 1
    return bytes(changed)


def _one_after_the_other(*contents: bytes) -> bytes:
    return b"".join(contents)


FILMED = replace(PLAIN, frames=120, rate=FILM)
# As JPEG stores them, BT.601 of full range, which it says nowhere.
JPEG = replace(MOMENTS, colours=Stored("smpte170m", full_range=True, tagged=False))
FIELDS: tuple[Recipe, ...] = (
    _case(
        "interlaced, top field first",
        _interlaced("tff", *_x264_fields("tff")),
        shows=MOMENTS,
        rate=PAL,
    ),
    _case(
        "interlaced, bottom field first",
        _interlaced("bff", *_x264_fields("bff")),
        shows=MOMENTS,
        rate=PAL,
    ),
    _case(
        "interlaced MPEG-2, ts",
        _interlaced("tff", *MPEG2, "-flags", "+ildct+ilme", container="ts"),
        shows=MOMENTS,
        rate=PAL,
    ),
    _case(
        "interlaced, mkv",
        _interlaced("tff", *_x264_fields("tff"), container="mkv"),
        shows=MOMENTS,
        rate=PAL,
    ),
    _case(
        "interlaced ProRes",
        _interlaced(
            *("tff", "-c:v", "prores_ks", "-pix_fmt", "yuv422p10le", "-flags", "+ildct+ilme"),
            container="mov",
        ),
        shows=MOMENTS,
        rate=PAL,
    ),
    _case(
        "interlaced Motion JPEG, by its container alone",
        _interlaced(
            "bff",
            *("-c:v", "mjpeg", "-q:v", "2", "-huffman", "optimal", "-c:a", "pcm_s16le"),
            container="mov",
            of=replace(JPEG, pixel_format="yuvj420p", container="mov", encoder=("-c:v", "ffv1")),
        ),
        shows=JPEG,
        rate=PAL,
    ),
    _case(
        "interlaced, in parts",
        _interlaced("tff", *_x264_fields("tff")),
        shows=MOMENTS,
        rate=PAL,
        segments=((0, 100), (37, 90)),
        chunk_seconds=0.8,
    ),
    _case(
        "a broadcast that becomes interlaced",
        Changed(
            of=(
                replace(PLAIN, container="ts"),
                Remade(
                    of=(_interlaced("tff", *_x264_fields("tff")),),
                    arguments=(
                        *("-c", "copy", "-output_ts_offset", "4.08"),
                        *("-muxdelay", "0", "-muxpreload", "0"),
                    ),
                    container="ts",
                ),
            ),
            how=_one_after_the_other,
            container="ts",
        ),
        shows=PLAIN,
        numbers=[*range(100), *range(0, 200, 2)],
        segments=((90, 98), (110, 130)),
        clicks=False,
    ),
    _case(
        "telecined",
        Remade(
            of=(FILMED,),
            arguments=("-vf", "telecine=pattern=23,setfield=tff", *_x264_fields("tff")),
        ),
        shows=replace(PLAIN, rate=FILM),
        rate=NTSC,
        in_order=True,
        segments=((10, 60),),
    ),
    _case(
        "telecined by flags alone plays at film's rate",
        Remade(
            of=(
                Changed(
                    of=(
                        Remade(
                            of=(FILMED,),
                            arguments=("-an", *MPEG2[:-1], "0", "-f", "mpeg2video"),
                            container="m2v",
                        ),
                    ),
                    how=_with_repeats,
                    container="m2v",
                ),
                FILMED,
            ),
            arguments=(
                *("-map", "0:v", "-map", "1:a", "-c", "copy"),
                *("-bsf:v", "setts=ts=round(floor(5*N/2)*1001/60000/TB)", "-muxdelay", "0"),
            ),
            container="ts",
        ),
        shows=FILMED,
    ),
)
