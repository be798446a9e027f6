"""Sound of every kind: on time, on both sides as it must be, there where the source has any."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.media.recipes.recipe import PLAIN, Recipe, Remade

MUTE = replace(PLAIN, frames=50, clicks=None)
# Of what no longer has the higher ones.
LOW_TONES = (1000, 2000, 3000)
OFF = -99.0
LESS = -3.01  # the coefficient of 0.7071 that ITU-R BS.775 gives centre and surround


def _case(name: str, source: Any, **more: Any) -> Recipe:
    return Recipe(name=name, topic="sound", source=source, **more)


def _codec(
    name: str,
    codec: str,
    container: str,
    *options: str,
    tones: tuple[int, ...] = PLAIN.tones,
    **more: Any,
) -> Recipe:
    muxer = ("-strict", "-2", *options)
    clip = replace(PLAIN, audio_codec=codec, container=container, muxer=muxer, tones=tones)
    return _case(name, replace(clip, **more))


def _layout(
    name: str, layout: str, channels: dict[int, tuple[float, float]], container: str = "mkv"
) -> Recipe:
    """A source with a tone in each channel, in the order of the layout."""
    parts = "|".join(f"0.1*sin({tone}*2*PI*t)" for tone in channels)
    source = Remade(
        of=(MUTE,),
        arguments=(
            *("-filter_complex", f"aevalsrc={parts}:c={layout}:s=48000:d=2[a]"),
            *("-map", "0:v", "-map", "[a]", "-c:v", "copy", "-c:a", "flac"),
        ),
        container=container,
    )
    return _case(name, source, shows=MUTE, segments=((0, 50),), clicks=False, levels=channels)


def _tracks(name: str, default: int) -> Recipe:
    """A source in two languages: which is the default one decides."""
    dispositions = [("default" if track == default else "0") for track in (0, 1)]
    sines = ";".join(f"sine=f={tone}:d=2,volume=0.5[a{tone}]" for tone in (1000, 2000))
    source = Remade(
        of=(MUTE,),
        arguments=(
            *("-filter_complex", sines, "-map", "0:v", "-map", "[a1000]", "-map", "[a2000]"),
            *("-c:v", "copy", "-c:a", "aac", "-ac", "2"),
            *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"),
            *("-disposition:a:0", dispositions[0], "-disposition:a:1", dispositions[1]),
        ),
    )
    both, none = (0.0, 0.0), (OFF, OFF)
    levels = {1000: none if default else both, 2000: both if default else none}
    return _case(name, source, shows=MUTE, segments=((0, 50),), clicks=False, levels=levels)


SOUND: tuple[Recipe, ...] = (
    _case("none", replace(PLAIN, clicks=None), sound=False, clicks=False),
    *(_codec(f"{channels} channels", "aac", "mp4", channels=channels) for channels in (1, 2, 6, 8)),
    *(
        _codec(f"{rate} Hz", "pcm_s16le", "mov", "-ar", str(rate), tones=tones)
        for rate, tones in (
            (8_000, LOW_TONES),
            (11_025, LOW_TONES),
            (22_050, PLAIN.tones),
            (32_000, PLAIN.tones),
            (44_100, PLAIN.tones),
            (96_000, PLAIN.tones),
            (192_000, PLAIN.tones),
        )
    ),
    _codec("AAC, 44.1 kHz", "aac", "mp4", "-ar", "44100"),
    _codec("PCM of 24 bits", "pcm_s24le", "mov"),
    _codec("PCM of floats, mkv", "pcm_f32le", "mkv"),
    _codec("AC-3, mp4", "ac3", "mp4"),
    _codec("AC-3, ts", "ac3", "ts"),
    _codec("E-AC-3, mp4", "eac3", "mp4"),
    _codec("E-AC-3, ts", "eac3", "ts"),
    _codec("Opus, mp4", "libopus", "mp4"),
    _codec("Opus, mkv", "libopus", "mkv"),
    _codec("Vorbis, mkv", "libvorbis", "mkv"),
    _codec("FLAC, mkv", "flac", "mkv"),
    _codec("FLAC, mp4", "flac", "mp4"),
    _codec("ALAC, mov", "alac", "mov"),
    _codec("MP3, mp4", "libmp3lame", "mp4"),
    _codec("MP3, mkv", "libmp3lame", "mkv"),
    _codec("MP2, ts", "mp2", "ts"),
    _codec(
        "AMR, 3gp",
        "libopencore_amrnb",
        "3gp",
        "-ar",
        "8000",
        "-b:a",
        "12.2k",
        channels=1,
        tones=(1000,),
    ),
    _layout("one tone, mono", "mono", {1000: (0.0, 0.0)}),
    _layout("a tone on each side, stereo", "stereo", {500: (0.0, OFF), 700: (OFF, 0.0)}),
    _layout(
        "5.1 folded to stereo",
        "5.1",
        {
            500: (0.0, OFF),
            700: (OFF, 0.0),
            900: (LESS, LESS),
            80: (OFF, OFF),
            1300: (LESS, OFF),
            1500: (OFF, LESS),
        },
    ),
    _layout(
        "7.1 folded to stereo",
        "7.1",
        {
            500: (0.0, OFF),
            700: (OFF, 0.0),
            900: (LESS, LESS),
            80: (OFF, OFF),
            1300: (LESS, OFF),
            1500: (OFF, LESS),
            1700: (LESS, OFF),
            1900: (OFF, LESS),
        },
    ),
    _tracks("two languages, the first is the default", 0),
    _tracks("two languages, the second is the default", 1),
    _case(
        "sound in parts, 44.1 kHz",
        replace(PLAIN, muxer=("-ar", "44100")),
        chunk_seconds=0.8,
    ),
)
