"""A run of FFmpeg as a value, and the files that it reads beside its inputs. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from fractions import Fraction
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FfmpegCommand:
    """One run of FFmpeg.

    Attributes:
        arguments: the whole list, the program first.
        scripts: files that must be there when it starts, with their text. Graphs
            go by file because an argument holds at most 128 KiB.
        output: the file it makes.
        frame_count: frames that it encodes; 0 when it joins finished parts.
        environment: variables that it needs beside the usual ones.
    """

    arguments: tuple[str, ...]
    scripts: Mapping[Path, str]
    output: Path
    frame_count: int
    environment: Mapping[str, str] = field(default_factory=dict)

    def write_scripts(self) -> None:
        """Write the scripts where the arguments say they are."""
        for path, text in self.scripts.items():
            path.write_text(text)


class ChangedSound(Enum):
    """What becomes of sound that changes its channels or its rate on the way.

    A graph of filters begins anew with it and counts from zero, which ends the run.
    """

    UNEXPECTED = auto()
    # A bit of its head that is wrong says so for a moment: there is silence instead.
    PASSED_OVER = auto()
    # A run of its own makes it stereo of one rate beforehand.
    EVENED = auto()


@dataclass(frozen=True, slots=True)
class Site:
    """Where the runs of a task take place.

    Attributes:
        ffmpeg: the program.
        url: the source as the gateway serves it, on loopback HTTP, without secrets.
        threads: of an encode on the CPU; other counts may give other bytes.
        folder: where scripts and outputs go; nothing else is in it.
        least_margin: seconds that readings begin early at the least, because with the usual
            margin frames were missing.
        tolerant: whether what cannot be decoded is passed over: frames that are missing are
            filled with the nearest earlier picture, sound with silence.
        changed_sound: what becomes of sound that changes.
    """

    ffmpeg: Path
    url: str
    threads: int
    folder: Path
    least_margin: Fraction = Fraction(0)
    tolerant: bool = False
    changed_sound: ChangedSound = ChangedSound.UNEXPECTED


def concat_script(
    names: Sequence[str], frame_counts: Sequence[int], rate: Fraction, options: str = ""
) -> str:
    """Return a script for FFmpeg's concat demuxer.

    It counts in microseconds, which a frame rarely is a whole number of: so each length is
    the distance of two rounded places, lest a thousand rounding errors add up.

    Args:
        names: of the files, as URLs or relative to the script.
        options: lines that go with every file.
    """
    lines = ["ffconcat version 1.0"]
    frames, place = 0, 0
    for name, frame_count in zip(names, frame_counts, strict=True):
        frames += frame_count
        end = round(frames * 1_000_000 / rate)
        lines += [f"file {name}", f"duration {(end - place) / 1e6:.6f}"]
        lines += [options] if options else []
        place = end
    return "\n".join(lines) + "\n"


def with_head(script: str, name: str) -> str:
    """Return a script that begins with a file without pictures, for what that says of them."""
    first, rest = script.split("\n", 1)
    return f"{first}\nfile {name}\nduration 0\n{rest}"
