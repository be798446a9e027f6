"""Sources whose pictures come at every rate and pace: each frame the right one, in its time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from tests.media.frame_codes import Clip
from tests.media.recipes.recipe import PLAIN, Changed, Range, Recipe, Remade
from videoexport.v1 import export_pb2 as pb

NTSC = Fraction(30000, 1001)
FILM = Fraction(24000, 1001)
FAST = Fraction(60000, 1001)
# Long enough that each holds a click at twice the rate.
LONG_CUTS: tuple[Range, ...] = ((24, 60), (50, 90), (9, 40), (120, 150))
HOLED = (1, 1, 1, 2, 1, 1, 1, 1, 3)


def _case(name: str, source: Any, **more: Any) -> Recipe:
    return Recipe(name=name, topic="time", source=source, **more)


def _rate(rate: Fraction, **more: Any) -> pb.ExportSettings:
    asked = pb.Rational(numerator=rate.numerator, denominator=rate.denominator)
    return pb.ExportSettings(frame_rate=asked, **more)


def _says_fifty(content: bytes) -> bytes:
    """An mkv of 25 frames a second whose header says that each lasts 20 ms."""
    told = bytes.fromhex("23e38384") + (40_000_000).to_bytes(4, "big")
    assert content.count(told) == 1
    return content.replace(told, told[:4] + (20_000_000).to_bytes(4, "big"))


def _one_after_the_other(*contents: bytes) -> bytes:
    return b"".join(contents)


def _recorded(*firsts: float) -> tuple[Clip, ...]:
    """Recordings that begin so, in seconds on their clocks, with clicks as of one."""
    turn = len(PLAIN.tones) // 2  # 20 clicks fill a recording
    tones = (PLAIN.tones, PLAIN.tones[turn:] + PLAIN.tones[:turn])
    return tuple(
        replace(TS, first_frame_time=first, tones=tones[number % 2])
        for number, first in enumerate(firsts)
    )


TS = replace(PLAIN, container="ts")
RECORDING = Clip(
    frames=60,
    durations=(1, 1, 1, 1, 1, 1, 1, 1, 1, 51),
    clicks=0.2,
    colours=PLAIN.colours,
    tones=PLAIN.tones,
)
VP9 = ("-c:v", "libvpx-vp9", "-crf", "16", "-b:v", "0", "-g", "25", "-deadline", "realtime")
BROWSER: dict[str, Any] = {
    "container": "webm",
    "encoder": VP9,
    "audio_codec": "libopus",
    "muxer": ("-live", "1"),
}
TIME: tuple[Recipe, ...] = (
    *(
        _case(f"{name} frames a second, {container}", clip, segments=LONG_CUTS)
        for name, rate in (("23.976", FILM), ("29.97", NTSC), ("59.94", FAST))
        for container in ("mp4", "mkv", "ts")
        for clip in [replace(PLAIN, frames=150, rate=rate, container=container)]
    ),
    _case("12.5 frames a second", replace(PLAIN, rate=Fraction(25, 2))),
    *(
        _case(
            f"{rate} frames a second become 60",
            replace(PLAIN, frames=4 * rate, rate=Fraction(rate), gop=rate),
            rate=Fraction(60),
            segments=LONG_CUTS,
        )
        for rate in (120, 240)
    ),
    *(
        _case(
            f"{float(own):g} frames a second, {float(asked):g} asked for",
            replace(PLAIN, frames=150, rate=own),
            settings=_rate(asked),
            rate=asked,
            segments=((24, 40), (30, 45), (9, 33)),
        )
        for own, asked in (
            (Fraction(50), Fraction(25)),
            (Fraction(25), Fraction(50)),
            (Fraction(30), FILM),
            (Fraction(24), Fraction(30)),
            (NTSC, Fraction(30)),
        )
    ),
    *(
        _case(
            f"frames dropped here and there, {container}",
            replace(PLAIN, durations=HOLED, container=container),
        )
        for container in ("mp4", "mkv", "ts")
    ),
    _case(
        "varying rate, 25 asked for",
        replace(PLAIN, durations=(1, 2, 1, 3)),
        settings=_rate(Fraction(25)),
    ),
    *(
        _case(
            f"screen recording with pauses, {container}",
            replace(RECORDING, container=container),
            segments=((0, 20), (40, 75), (5, 70), (110, 130)),
        )
        for container in ("mp4", "mkv")
    ),
    # As browsers record: neither lengths of blocks nor of the file, and no index.
    _case(
        "screen recording of a browser, webm",
        replace(RECORDING, **BROWSER),
        segments=((0, 20), (40, 75), (5, 70), (110, 130)),
    ),
    _case("recording of a browser, webm, whole", replace(PLAIN, **BROWSER), segments=None),
    _case(
        "a telephone in the dark: 15.55 frames a second on the average",
        replace(PLAIN, rate=Fraction(30), durations=(*(2,) * 12, 1), gop=15),
        rate=Fraction(311, 20),
    ),
    *(
        _case(
            f"timestamps waver by 3 ms, {container}",
            Remade(
                of=(replace(PLAIN, b_frames=0),),
                arguments=(
                    *("-c", "copy", "-video_track_timescale", "90000", "-bsf:v"),
                    "setts=ts=if(N\\,TS+(mod(N*7\\,5)-2)*0.0015/TB\\,TS)",
                ),
                container=container,
            ),
            shows=PLAIN,
        )
        for container in ("mp4", "mkv")
    ),
    _case(
        "slide show",
        replace(PLAIN, frames=12, durations=(40, 7, 60)),
        settings=_rate(Fraction(25)),
        segments=((30, 60), (95, 160), (20, 50)),
    ),
    _case("timestamps wrap, ts", replace(TS, first_frame_time=95441.5)),
    _case(
        "timestamps wrap after more than a minute, ts",
        replace(TS, frames=500, rate=Fraction(5), gop=25, clicks=1.0, first_frame_time=95363.7),
        segments=((390, 410), (10, 30), (410, 440), (480, 500)),
    ),
    *(
        _case(
            f"timestamps jump {name}, ts{how}",
            Changed(of=_recorded(*firsts), how=_one_after_the_other, container="ts"),
            shows=replace(TS, frames=100 * len(firsts)),
            numbers=[number for _ in firsts for number in range(100)],
            # The clicks that would be at the jumps.
            silent=[(4 * n - 0.01, 4 * n + 0.01) for n in range(1, len(firsts))],
            segments=segments,
            chunk_seconds=seconds,
        )
        for name, firsts in (
            ("ahead by 100 s", (0.0, 104.0)),
            ("back", (50.0, 0.0)),
            ("back to where they were", (10.0, 12.0)),
            ("ahead and back", (90_000.0, 100.0, 50.0)),
        )
        for how, segments, seconds in (
            ("", None, None),
            (", cut", ((90, 110), (150, 170), (101, 120), (20, 40)), None),
            (", in parts", ((0, 200), (90, 110)), 1.0),
        )
    ),
    _case(
        "pictures pause for longer than a jump, but not the sound, ts",
        replace(TS, durations=(*(1,) * 49, 300)),
        segments=((30, 60), (330, 360), (345, 380)),
    ),
    _case(
        "says 50 frames a second, has 25, H.264",
        Remade(
            of=(PLAIN,),
            arguments=(
                "-c",
                "copy",
                "-bsf:v",
                "h264_metadata=tick_rate=100",
            ),
        ),
        shows=PLAIN,
    ),
    _case(
        "says 50 frames a second, has 25, mkv",
        Changed(of=(replace(PLAIN, container="mkv"),), how=_says_fifty, container="mkv"),
        shows=PLAIN,
    ),
    _case(
        "slow motion by its metadata plays as its timestamps say",
        Remade(
            of=(PLAIN,),
            arguments=(
                *("-c", "copy", "-movflags", "use_metadata_tags"),
                *("-metadata", "com.android.capture.fps=240"),
            ),
        ),
        shows=PLAIN,
    ),
)
