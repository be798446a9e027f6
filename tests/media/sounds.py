"""Clips whose sound is made of several streams or channels, and what is heard of each."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.media.frame_codes import Signal, ffmpeg_exe

RATE = 48_000
# Each channel sounds in a slot of its own, away from the fades and priming at its ends.
SLOT = 9_600
TONE = 0.5


def channels_in_turn(count: int) -> Signal:
    """Return samples × channels: a tone of half of full scale in one channel after the other."""
    samples = np.zeros((SLOT * count, count), dtype=np.float32)
    tone = TONE * np.sin(2 * np.pi * 1000 * np.arange(SLOT // 2) / RATE)
    for channel in range(count):
        begin = SLOT * channel + SLOT // 4
        samples[begin : begin + SLOT // 2, channel] = tone
    return samples


def gains(stereo: Signal, count: int) -> list[tuple[float, float]]:
    """Return how much of each channel that sounded in turn is on the left and on the right."""
    found = []
    for channel in range(count):
        middle = SLOT * channel + SLOT // 2
        heard = stereo[middle - SLOT // 8 : middle + SLOT // 8]
        left, right = np.sqrt((heard**2).mean(axis=0)) / (TONE / np.sqrt(2))
        found.append((round(float(left), 3), round(float(right), 3)))
    return found


def read_stereo(path: Path) -> Signal:
    """Return the sound of a file, samples × 2 at 48 kHz, from time zero of the file."""
    arguments = [ffmpeg_exe(), "-nostdin", "-v", "error", "-i", str(path), "-map", "0:a:0"]
    arguments += ["-af", "aresample=async=1:first_pts=0", "-ar", str(RATE), "-f", "f32le", "pipe:1"]
    done = subprocess.run(arguments, check=True, capture_output=True)
    return np.frombuffer(done.stdout, dtype="<f4").reshape(-1, 2)


def measured_loudness(path: Path) -> tuple[float, float]:
    """Return integrated loudness and true peak of a file, in LUFS and dBTP.

    By `loudnorm`, not by the meter that exports are made with.
    """
    arguments = [ffmpeg_exe(), "-nostdin", "-hide_banner", "-i", str(path), "-map", "0:a:0"]
    arguments += ["-af", "loudnorm=print_format=json", "-f", "null", "-"]
    told = subprocess.run(arguments, check=True, capture_output=True, text=True).stderr
    values = dict(re.findall(r'"(input_i|input_tp)" : "(\S+)"', told))
    return float(values["input_i"]), float(values["input_tp"])


@dataclass(frozen=True, slots=True)
class Track:
    """An audio stream of a clip.

    Attributes:
        samples: samples × channels at 48 kHz.
        layout: as FFmpeg names it; empty for none.
        codec: arguments of its encoder.
        tags: that the container says of it, as FFmpeg names them.
        default: whether it is the container's default.
    """

    samples: Signal
    layout: str = ""
    codec: tuple[str, ...] = ("pcm_s16le",)
    tags: tuple[tuple[str, str], ...] = ()
    default: bool = False


def clip_with(tracks: Sequence[Track], path: Path) -> Path:
    """Write plain pictures with these sounds, as long as the longest."""
    seconds = max(len(track.samples) for track in tracks) / RATE
    pictures = f"testsrc2=size=128x72:rate=25:duration={seconds}"
    arguments = [ffmpeg_exe(), "-nostdin", "-y", "-v", "error", "-f", "lavfi", "-i", pictures]
    outputs = ["-map", "0:v", "-c:v", "libx264", "-preset", "ultrafast"]
    for number, track in enumerate(tracks):
        raw = path.with_suffix(f".{number}.f32")
        raw.write_bytes(track.samples.astype("<f4").tobytes())
        count = track.samples.shape[1]
        layout = ("-ch_layout", track.layout or f"{count}C")
        arguments += ["-guess_layout_max", "0"] if not track.layout else []
        arguments += ["-f", "f32le", "-ar", str(RATE), *layout, "-i", str(raw)]
        name, *options = track.codec
        outputs += ["-map", f"{number + 1}:a", f"-c:a:{number}", name, *options]
        for key, value in track.tags:
            outputs += [f"-metadata:s:a:{number}", f"{key}={value}"]
        outputs += [f"-disposition:a:{number}", "default" if track.default else "0"]
    subprocess.run([*arguments, *outputs, str(path)], check=True)
    return path
