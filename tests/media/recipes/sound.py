"""Sound of every kind: on time, on both sides as it must be, there where the source has any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.media.recipes.recipe import PLAIN, Changed, Recipe, Refused, Remade
from videoexport.v1 import export_pb2 as pb

MUTE = replace(PLAIN, frames=50, clicks=None)
LONG = replace(MUTE, frames=100)
WHOLE = ((0, 50),)
# Of what no longer has the higher ones.
LOW_TONES = (1000, 2000, 3000)
OFF = -99.0
LESS = -3.01  # the coefficient of 0.7071 that ITU-R BS.775 gives centre and surround
BOTH = (0.0, 0.0)
SURROUND = {
    500: (0.0, OFF),
    700: (OFF, 0.0),
    900: (LESS, LESS),
    80: (OFF, OFF),
    1300: (LESS, OFF),
    1500: (OFF, LESS),
}
AC3 = ("ac3", "-b:a", "640k")
# Of two languages.
TWO = ("mono", "mono")
EIGHT, FOUR_PAIRS = ("mono",) * 8, ("FL", "FR") * 4
PAIR = {500: (0.0, OFF), 700: (OFF, 0.0)}
RIGHT = (("FL", "FR"), PAIR)
THIRD = (FOUR_PAIRS, {1300: (0.0, OFF), 1500: (OFF, 0.0)})
NOISE = "anoisesrc=color=pink:amplitude=0.3:duration=4:sample_rate=48000:seed=7"
# A broadcast, which may change.
STEREO = replace(PLAIN, container="ts", clicks=1.0)
# Its clicks go on: the first recording has four.
LATER = replace(STEREO, first_frame_time=4.0, tones=PLAIN.tones[4:] + PLAIN.tones[:4])
# Quiet noise, and a sample near full scale four times a second.
SPIKES = "aevalsrc=0.03*(2*random(0)-1)+0.9*lt(mod(t\\,0.25)\\,0.00002):s=48000:d=4"
# A frame's end is within one of its waves, another place of it each time.
TONE = "aevalsrc=0.5*sin(103*2*PI*t):s=48000:d=4"


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


def _one_after_the_other(*contents: bytes) -> bytes:
    return b"".join(contents)


def _layout(
    name: str,
    layout: str,
    channels: dict[int, tuple[float, float]],
    *,
    container: str = "mkv",
    codec: tuple[str, ...] = ("flac",),
) -> Recipe:
    """A source with a tone in each channel, in the order of the layout."""
    parts = "|".join(f"0.1*sin({tone}*2*PI*t)" for tone in channels)
    source = Remade(
        of=(MUTE,),
        arguments=(
            *("-filter_complex", f"aevalsrc={parts}:c={layout}:s=48000:d=2[a]"),
            *("-map", "0:v", "-map", "[a]", "-c:v", "copy", "-c:a", *codec),
        ),
        container=container,
    )
    return _case(name, source, shows=MUTE, segments=WHOLE, clicks=False, levels=channels)


def _tracks(
    name: str,
    layouts: Sequence[str],
    heard: Mapping[int, tuple[float, float]],
    *,
    default: int = 0,
    stream: int | None = None,
    container: str = "mov",
    video: tuple[str, ...] = ("copy",),
    **more: Any,
) -> Recipe:
    """A source with a tone in each track, of 500, 700, 900 Hz and so on.

    Args:
        heard: in decibels left and right, by tone; others must not be.
        default: which track is the container's default one.
        stream: that is asked for.
    """
    tones = [500 + 200 * number for number in range(len(layouts))]
    sines = [
        f"aevalsrc=0.1*sin({tone}*2*PI*t):c={layout}:s=48000:d=2[a{tone}]"
        for tone, layout in zip(tones, layouts, strict=True)
    ]
    maps = [word for tone in tones for word in ("-map", f"[a{tone}]")]
    told: list[str] = []
    for number, language in enumerate(("eng", "deu") if layouts is TWO else ()):
        told += [f"-metadata:s:a:{number}", f"language={language}"]
    for number in range(len(tones)):
        told += [f"-disposition:a:{number}", "default" if number == default else "0"]
    source = Remade(
        of=(MUTE,),
        arguments=(
            *("-filter_complex", ";".join(sines), "-map", "0:v", *maps, *told),
            *("-c:v", *video, "-c:a", "pcm_s16le"),
        ),
        container=container,
    )
    given: dict[str, Any] = {
        "settings": pb.ExportSettings(audio_stream=stream),
        "levels": {tone: heard.get(tone, (OFF, OFF)) for tone in tones},
        "shows": MUTE,
        "segments": WHOLE,
        "clicks": False,
    }
    return _case(name, source, **(given | more))


def _made(name: str, sound: str, **more: Any) -> Recipe:
    """A source whose sound FFmpeg makes by a filter."""
    source = Remade(
        of=(LONG,),
        arguments=(
            *("-filter_complex", f"{sound},aformat=channel_layouts=stereo[a]"),
            *("-map", "0:v", "-map", "[a]", "-c:v", "copy", "-c:a", "pcm_f32le"),
        ),
        container="mov",
    )
    return _case(name, source, shows=LONG, clicks=False, **more)


def _loudness(name: str, lufs: float, sound: str = NOISE, **more: Any) -> Recipe:
    settings = pb.ExportSettings(loudness_lufs=lufs, format=more.pop("format", pb.FORMAT_MP4))
    return _made(name, sound, settings=settings, **more)


SOUND: tuple[Recipe, ...] = (
    _case("none", replace(PLAIN, clicks=None), sound=False, clicks=False),
    *(_codec(f"{channels} channels", "aac", "mp4", channels=channels) for channels in (1, 2, 6, 8)),
    *(
        _codec(f"{rate} Hz", "pcm_s16le", "mov", "-ar", str(rate), tones=tones)
        for rate, tones in (
            (8_000, LOW_TONES),
            (11_025, LOW_TONES),
            (12_000, LOW_TONES),
            (16_000, LOW_TONES),
            (22_050, PLAIN.tones),
            (24_000, PLAIN.tones),
            (32_000, PLAIN.tones),
            (44_100, PLAIN.tones),
            (88_200, PLAIN.tones),
            (96_000, PLAIN.tones),
            (192_000, PLAIN.tones),
        )
    ),
    _codec("AAC, 44.1 kHz", "aac", "mp4", "-ar", "44100"),
    _codec("AAC, 8 kHz", "aac", "mp4", "-ar", "8000", tones=LOW_TONES),
    _codec("AAC, 22.05 kHz", "aac", "mov", "-ar", "22050"),
    _codec("AAC, 96 kHz, ts", "aac", "ts", "-ar", "96000"),
    _codec("PCM by the law of telephones", "pcm_mulaw", "mov", "-ar", "8000", tones=LOW_TONES),
    _codec("PCM of 24 bits", "pcm_s24le", "mov"),
    _codec("PCM of floats, mkv", "pcm_f32le", "mkv"),
    _codec("AC-3, mp4", "ac3", "mp4"),
    _codec("AC-3, ts", "ac3", "ts"),
    _codec("AC-3, 32 kHz", "ac3", "mkv", "-ar", "32000"),
    _codec("E-AC-3, mp4", "eac3", "mp4"),
    _codec("E-AC-3, ts", "eac3", "ts"),
    _codec("Opus, mp4", "libopus", "mp4"),
    _codec("Opus, mkv", "libopus", "mkv"),
    _codec("Opus of 16 kHz", "libopus", "mkv", "-ar", "16000", tones=LOW_TONES),
    _codec("Vorbis, mkv", "libvorbis", "mkv"),
    _codec("FLAC, mkv", "flac", "mkv"),
    _codec("FLAC, mp4", "flac", "mp4"),
    _codec("FLAC, 96 kHz", "flac", "mkv", "-ar", "96000"),
    _codec("ALAC, mov", "alac", "mov"),
    _codec("MP3, mp4", "libmp3lame", "mp4"),
    _codec("MP3, mkv", "libmp3lame", "mkv"),
    _codec("MP3, 22.05 kHz", "libmp3lame", "mkv", "-ar", "22050"),
    _codec("MP3, ts", "libmp3lame", "ts"),
    _codec("MP2, ts", "mp2", "ts"),
    *(
        _case(
            f"stereo, then {name}, ts{how}",
            Changed(
                of=(STEREO, replace(LATER, channels=channels)),
                how=_one_after_the_other,
                container="ts",
            ),
            shows=replace(STEREO, frames=200),
            numbers=[number for _ in range(2) for number in range(100)],
            # The click that would be at the change.
            silent=[(3.99, 4.01)],
            segments=segments,
            chunk_seconds=seconds,
        )
        for name, channels in (("mono", 1), ("5.1", 6))
        for how, segments, seconds in (
            ("", None, None),
            (", cut", ((90, 130), (150, 170), (101, 128), (20, 40)), None),
            (", in parts", ((0, 200), (90, 130)), 1.0),
        )
    ),
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
    _layout("5.1 folded to stereo", "5.1", SURROUND),
    _layout("5.1 of side channels folded to stereo", "5.1(side)", SURROUND),
    _layout("5.1 of AAC folded to stereo", "5.1", SURROUND, container="mp4", codec=("aac",)),
    _layout(
        *("5.1 of side channels, AAC, folded to stereo", "5.1(side)", SURROUND),
        container="mp4",
        codec=("aac",),
    ),
    _layout(
        *("5.1 of AC-3 folded to stereo", "5.1(side)", SURROUND),
        container="ts",
        codec=(*AC3, "-center_mixlev", "0.707", "-surround_mixlev", "0.707"),
    ),
    _layout(
        "5.1 of AC-3 folded as it says itself",
        "5.1(side)",
        {**SURROUND, 900: (-4.5, -4.5), 1300: (-6.0, OFF), 1500: (OFF, -6.0)},
        container="ts",
        codec=(*AC3, "-center_mixlev", "0.595", "-surround_mixlev", "0.5"),
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
    _tracks("two languages, the first is the default", TWO, {500: BOTH}, container="mkv"),
    _tracks("two languages, the second is the default", TWO, {700: BOTH}, default=1),
    _tracks("two languages, the one asked for that is no default", TWO, {700: BOTH}, stream=2),
    _tracks(
        *("a stream that is none of sound", TWO, {}),
        stream=5,
        refused=Refused(reason="INVALID_REQUEST", words="no audio stream 5; there is 1"),
    ),
    _tracks("left and right in tracks of their own", ("FL", "FR"), PAIR),
    _tracks("left and right in tracks of their own, the right one asked for", *RIGHT, stream=2),
    _tracks("eight mono tracks", EIGHT, {500: BOTH}),
    _tracks("eight mono tracks, the fifth asked for", EIGHT, {1300: BOTH}, stream=5),
    _tracks("four pairs of mono tracks", FOUR_PAIRS, PAIR),
    _tracks("four pairs of mono tracks, the third asked for", *THIRD, stream=5),
    _tracks("four pairs of mono tracks, in parts", *THIRD, stream=6, chunk_seconds=0.8),
    _tracks(
        *("eight mono tracks, MXF", EIGHT, {}),
        container="mxf",
        video=("mpeg2video", "-q:v", "2"),
        refused=Refused(reason="INVALID_SOURCE", words="not a video in a supported format"),
    ),
    _case(
        "silent where the track asked for ends, though another goes on",
        Remade(
            of=(PLAIN, PLAIN),
            before={1: ("-t", "2")},
            arguments=("-map", "0", "-map", "1:a", "-c", "copy"),
        ),
        shows=PLAIN,
        settings=pb.ExportSettings(audio_stream=2),
        silent=((2.0, 4.0),),
    ),
    _loudness("as loud as broadcasts", -23),
    _loudness("as loud as the web", -16),
    _loudness("as loud as the web, in parts", -16, chunk_seconds=0.8),
    _loudness("as loud as the web, sound alone", -16, format=pb.FORMAT_M4A, gpu=False),
    _loudness("louder than its peaks allow", -14, SPIKES, codes=("LOUDNESS_MISSED",)),
    _made("cuts within a low tone do not click", TONE, smooth=0.03),
    _made("cuts within a low tone do not click, in parts", TONE, smooth=0.03, chunk_seconds=0.8),
    _case(
        "sound in parts, 44.1 kHz",
        replace(PLAIN, muxer=("-ar", "44100")),
        chunk_seconds=0.8,
    ),
)
