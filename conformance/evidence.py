"""What is in an output: everything that can be read back from the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from conformance.coloured import Coloured, read_coloured
from conformance.drawn import read_drawn
from conformance.marks import read_mark
from conformance.told import Says, read_told
from services.encoder.formats.colour_names import MATRICES, PRIMARIES, RANGES, TRANSFERS
from tests.media.frame_codes import CLICK_SAMPLE_RATE, Signal, click_times, click_tone, read_audio
from tests.media.read_back import Shown, read_back
from tests.media.recipes.recipe import Colour, Recipe
from tests.media.sounds import measured_loudness


@dataclass(frozen=True, slots=True)
class Heard:
    """One click.

    Attributes:
        time: in seconds from time zero of the file.
        tone: its place among the clip's tones.
    """

    time: float
    tone: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is in a file.

    Attributes:
        seconds_of_sound: None without any.
        levels: by tone that was asked for, how loud left and right, in decibels below full scale.
        stored: codec, pixel format, primaries, transfer, matrix and range; empty without pictures.
        marks: of each frame, the colour where a watermark must be; empty where nobody asked.
        drawn: of each frame, whether there are letters on it; empty where nobody asked.
        coloured: patches, where the case has some.
        loudness: in LUFS, and the true peak in dBTP, where a loudness was asked for.
        step: the most that a sample differs from the one before, but where the file begins and
            ends, where that is asked for.
    """

    shown: Shown
    clicks: tuple[Heard, ...]
    seconds_of_sound: float | None
    levels: dict[int, tuple[float, float]]
    stored: str = ""
    says: Says = field(default_factory=Says)
    drawn: tuple[bool, ...] = ()
    marks: tuple[Colour, ...] = ()
    coloured: Coloured | None = None
    loudness: tuple[float, float] | None = None
    step: float | None = None


# 20 ms, where codecs swing in and out.
_ENDS = CLICK_SAMPLE_RATE // 50
NO_PICTURES = Shown((), (), Fraction(0), (0, 0), True)


def evidence_of(path: Path, recipe: Recipe) -> Evidence:
    """Read a file, as far as its case says something of it."""
    drawn = read_drawn(path) if recipe.drawn is not None else ()
    marks = read_mark(path, recipe.mark[0]) if recipe.mark is not None else ()
    coloured = read_coloured(path) if recipe.looks is not None else None
    with av.open(str(path)) as file:
        has_sound, has_pictures = bool(file.streams.audio), bool(file.streams.video)
        stored = _stored(file) if has_pictures else ""
    shown = read_back(path) if has_pictures else NO_PICTURES
    told = read_told(path)
    if not has_sound:
        return Evidence(shown, (), None, {}, stored, told, drawn, marks, coloured)
    signal = read_audio(path)
    heard: tuple[Heard, ...] = ()
    if recipe.clicks:
        times, tones = click_times(signal), recipe.clip.tones
        heard = tuple(Heard(time, click_tone(signal, time, tones)) for time in times)
    levels = _levels(path, tuple(recipe.levels)) if recipe.levels else {}
    seconds = signal.size / CLICK_SAMPLE_RATE
    loudness = measured_loudness(path) if recipe.settings.HasField("loudness_lufs") else None
    step = None if recipe.smooth is None else float(np.abs(np.diff(signal[_ENDS:-_ENDS])).max())
    found = (stored, told, drawn, marks, coloured, loudness, step)
    return Evidence(shown, heard, seconds, levels, *found)


def _stored(file: InputContainer) -> str:
    # Decoders have names of their own.
    codec = file.streams.video[0].codec_context.codec.canonical_name
    frame = next(file.decode(video=0))
    tags = (
        PRIMARIES.get(frame.color_primaries, "?"),
        TRANSFERS.get(frame.color_trc, "?"),
        MATRICES.get(frame.colorspace, "?"),
        RANGES.get(frame.color_range, "?"),
    )
    return f"{codec} {frame.format.name} {'/'.join(tags)}"


def _levels(path: Path, tones: tuple[int, ...]) -> dict[int, tuple[float, float]]:
    left, right = (read_audio(path, channel=number) for number in (0, 1))
    return {tone: (_level(left, tone), _level(right, tone)) for tone in tones}


def _level(signal: Signal, tone: int) -> float:
    """Return how loud a tone is, in decibels; a sine of full scale has 0."""
    # Without the ends, where codecs swing in and out.
    inner = signal[signal.size // 5 : -signal.size // 5]
    window = np.hanning(inner.size)
    wave = np.exp(-2j * np.pi * tone * np.arange(inner.size) / CLICK_SAMPLE_RATE)
    amplitude = 2 * abs(np.dot(inner * window, wave)) / window.sum()
    return float(20 * np.log10(max(amplitude, 1e-6)))
