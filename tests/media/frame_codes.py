"""Clips whose every frame carries its number, and whose sound clicks on time.

A frame is a grey frame around a grid of black and white cells: 16 bits of frame
number and 8 bits of CRC. That survives scaling, padding and CRF 28 at sizes as
small as 64×36, and a wrong reading is noticed instead of believed. The grey frame
shows where the picture ends and padding begins.

The sound is silence with a click, the Hann-windowed burst of a tone, whose middle
lies exactly on the multiples of `click_interval`.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import accumulate, cycle, islice
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Signal = npt.NDArray[np.float32]

CLICK_SAMPLE_RATE = 48_000
_COLUMNS, _ROWS = 8, 3
_BLACK, _GREY, _WHITE = 16, 128, 235


class UnreadableFrame(AssertionError):
    """A frame carries no valid code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """What a generated clip is; equal clips are generated once.

    Attributes:
        frames: pictures in the file, numbered by their place on the grid of `rate`.
        durations: grid steps that the pictures last, repeated in a cycle; anything
            but ``(1,)`` makes the frame rate vary.
        first_frame_time: seconds by which all timestamps are shifted (mkv and ts).
        audio_delay: seconds by which the sound begins after the pictures.
        clicks: seconds between clicks; None for a clip without sound.
        tones: of the clicks in turn, in Hz; low where the sound is sampled rarely.
        width, height: of the upright picture, before `sar` is applied.
        rotation: clockwise degrees of the display matrix (mp4 only); the pictures
            are stored turned the other way, so that a player shows them upright.
        encoder: further arguments for the video encoder.
    """

    frames: int
    rate: Fraction = Fraction(25)
    width: int = 128
    height: int = 72
    sar: Fraction = Fraction(1)
    rotation: int = 0
    gop: int = 25
    b_frames: int = 2
    open_gop: bool = False
    durations: tuple[int, ...] = (1,)
    container: str = "mp4"
    clicks: float | None = 1.0
    tones: tuple[int, ...] = (4000,)
    audio_codec: str = "aac"
    channels: int = 2
    first_frame_time: float = 0.0
    audio_delay: float = 0.0
    pixel_format: str = "yuv420p"
    encoder: tuple[str, ...] = ()
    muxer: tuple[str, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """The numbers that the pictures carry, in order of presentation."""
        starts = accumulate(islice(cycle(self.durations), self.frames - 1), initial=0)
        return list(starts)

    @property
    def grid_frames(self) -> int:
        """Length of the clip on the grid of `rate`."""
        return sum(islice(cycle(self.durations), self.frames))

    @property
    def seconds(self) -> float:
        return float(self.grid_frames / self.rate)


@cache
def ffmpeg_exe() -> str:
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _crc8(number: int) -> int:
    """CRC-8 (polynomial 0x2F, which catches up to three wrong cells) of 16 bits."""
    crc = 0xFF
    for byte in (number >> 8 & 0xFF, number & 0xFF):
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x2F) & 0xFF if crc & 0x80 else crc << 1
    return crc


def draw_frame(number: int, width: int, height: int) -> Image:
    """Returns the luma picture, height × width, that carries `number` (0 to 65,535)."""
    if not 0 <= number < 1 << 16:
        raise ValueError(f"frame number {number} does not fit in 16 bits")
    code = number << 8 | _crc8(number)
    cells = np.full((_ROWS + 2, _COLUMNS + 2), _GREY, dtype=np.uint8)
    for bit in range(_ROWS * _COLUMNS):
        row, column = divmod(bit, _COLUMNS)
        cells[row + 1, column + 1] = _WHITE if code >> (23 - bit) & 1 else _BLACK
    rows = np.arange(height) * (_ROWS + 2) // height
    columns = np.arange(width) * (_COLUMNS + 2) // width
    return cells[np.ix_(rows, columns)]


@dataclass(frozen=True, slots=True)
class Picture:
    """What was read from one frame: its number, and where the picture lies in it."""

    number: int
    left: int
    top: int
    width: int
    height: int


def read_frame(luma: Image) -> Picture:
    """Reads a frame that `draw_frame` drew, however it was scaled and padded since.

    Raises:
        UnreadableFrame: no picture, or its CRC does not fit its number.
    """
    bright = luma > (_BLACK + _GREY) // 2
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    if not rows.size or not columns.size:
        raise UnreadableFrame("the frame is black")
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
    code = 0
    for bit in range(_ROWS * _COLUMNS):
        row, column = divmod(bit, _COLUMNS)
        # The middle half of the cell, where neighbours do not bleed in.
        y0, y1 = (top + int(height * (row + 1 + m) / (_ROWS + 2)) for m in (0.25, 0.75))
        x0, x1 = (left + int(width * (column + 1 + m) / (_COLUMNS + 2)) for m in (0.25, 0.75))
        code = code << 1 | int(luma[y0 : y1 + 1, x0 : x1 + 1].mean() > _GREY)
    number = code >> 8
    if _crc8(number) != code & 0xFF:
        raise UnreadableFrame(f"the code {code:06x} has a wrong CRC")
    return Picture(number, left, top, width, height)


def click_signal(seconds: float, interval: float, tones: Sequence[int] = (4000,)) -> Signal:
    """Returns mono samples at 48 kHz with a click around every multiple of `interval`."""
    rate = CLICK_SAMPLE_RATE
    signal = np.zeros(round(seconds * rate), dtype=np.float32)
    half = rate // 400  # 2.5 ms on each side: short for the ear, long enough for AAC to keep
    offsets = np.arange(-half, half + 1)
    window = 0.8 * np.cos(np.pi * offsets / (2 * half)) ** 2
    count = 1
    while (middle := round(count * interval * rate)) + half < signal.size:
        tone = tones[count % len(tones)]
        burst = window * np.cos(2 * np.pi * tone * offsets / rate)
        signal[middle - half : middle + half + 1] = burst
        count += 1
    return signal


def click_times(signal: Signal) -> list[float]:
    """Returns the seconds at which the clicks of a 48 kHz signal have their middle."""
    window = np.hanning(97).astype(np.float32)
    energy = np.convolve(signal.astype(np.float32) ** 2, window, mode="same")
    if not energy.size or energy.max() < 1e-3:
        return []
    loud = np.flatnonzero(energy > energy.max() / 4)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > CLICK_SAMPLE_RATE // 50) + 1)
    times = []
    for group in groups:
        weights = energy[group]
        times.append(float((group * weights).sum() / weights.sum()) / CLICK_SAMPLE_RATE)
    return times


def generate(clip: Clip, folder: Path) -> Path:
    """Writes the clip into `folder`, once: the name is a digest of its parameters."""
    digest = hashlib.sha256(repr(clip).encode()).hexdigest()[:16]
    path = folder / f"{digest}.{clip.container}"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        partial = Path(scratch) / path.name
        _encode(clip, Path(scratch), partial)
        partial.replace(path)
    return path


def _encode(clip: Clip, scratch: Path, output: Path) -> None:
    turned = clip.rotation in (90, 270)
    width, height = (clip.height, clip.width) if turned else (clip.width, clip.height)
    arguments = [ffmpeg_exe(), "-nostdin", "-y", "-v", "error"]
    arguments += ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}"]
    arguments += ["-framerate", str(clip.rate), "-i", "pipe:0"]
    if clip.clicks is not None:
        arguments += ["-itsoffset", str(clip.audio_delay)]
        arguments += ["-i", str(_write_clicks(clip, scratch / "clicks.wav"))]
    sar = f"{clip.sar.numerator}/{clip.sar.denominator}"
    filters = f"setpts={_timestamps(clip)},setsar={sar},format={clip.pixel_format}"
    arguments += ["-filter:v", filters, "-fps_mode", "passthrough", "-enc_time_base:v"]
    arguments += [f"{clip.rate.denominator}:{clip.rate.numerator}"]
    if "-c:v" not in clip.encoder:
        x264 = f"keyint={clip.gop}:min-keyint={clip.gop}:scenecut=0:bframes={clip.b_frames}"
        x264 += f":open-gop={int(clip.open_gop)}:b-adapt=0"
        arguments += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "16", "-threads", "1"]
        arguments += ["-x264-params", x264]
    arguments += list(clip.encoder)
    if clip.clicks is not None:
        arguments += ["-c:a", clip.audio_codec, "-ac", str(clip.channels)]
    if clip.first_frame_time:
        arguments += ["-output_ts_offset", str(clip.first_frame_time)]
        arguments += ["-avoid_negative_ts", "disabled"]
    if clip.container == "ts":
        # A constant start, so that tests can tell what the first timestamp is.
        arguments += ["-muxdelay", "0", "-muxpreload", "0"]
    written = scratch / f"upright.{clip.container}" if clip.rotation else output
    arguments += [*clip.muxer, str(written)]
    _run(arguments, _raw_frames(clip))
    if clip.rotation:
        # The option counts anticlockwise.
        remux = [ffmpeg_exe(), "-nostdin", "-v", "error", "-display_rotation", str(-clip.rotation)]
        _run([*remux, "-i", str(written), "-map", "0", "-c", "copy", str(output)], ())


def _raw_frames(clip: Clip) -> Iterator[bytes]:
    for number in clip.numbers:
        picture = draw_frame(number, clip.width, clip.height)
        yield np.rot90(picture, clip.rotation // 90).tobytes()


def _timestamps(clip: Clip) -> str:
    """Returns a setpts expression that lays the pictures out by their durations."""
    length = len(clip.durations)
    starts = [sum(clip.durations[:index]) for index in range(length)]
    within = "+".join(f"{start}*eq(mod(N\\,{length})\\,{i})" for i, start in enumerate(starts))
    steps = f"floor(N/{length})*{sum(clip.durations)}+{within}"
    # Rounded, for setpts truncates and the quotient may be a hair under the integer.
    return f"round(({steps})/({clip.rate.numerator}/{clip.rate.denominator})/TB)"


def _write_clicks(clip: Clip, path: Path) -> Path:
    signal = click_signal(clip.seconds - clip.audio_delay, clip.clicks or 1.0, clip.tones)
    samples = np.repeat((signal * 32767).astype("<i2"), clip.channels)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(clip.channels)
        file.setsampwidth(2)
        file.setframerate(CLICK_SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    return path


def _run(arguments: Sequence[str], chunks: Iterator[bytes] | tuple[()]) -> None:
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdin is not None
        try:
            for chunk in chunks:
                process.stdin.write(chunk)
            process.stdin.close()
        except BrokenPipeError:
            pass  # its exit status and its words say why
        if process.wait():
            errors.seek(0)
            raise RuntimeError(errors.read().decode(errors="replace"))


def read_pictures(path: Path) -> list[Picture]:
    """Reads every frame of a file, in order of presentation."""
    arguments = [ffmpeg_exe(), "-nostdin", "-v", "error", "-i", str(path), "-map", "0:v:0"]
    arguments += [
        "-fps_mode",
        "passthrough",
        "-enc_time_base:v",
        "demux",
        "-f",
        "image2pipe",
        "-c:v",
        "pgm",
    ]
    arguments += ["-pix_fmt", "gray", "pipe:1"]
    pictures = []
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.readline() == b"P5\n":
            width, height = (int(word) for word in process.stdout.readline().split())
            process.stdout.readline()
            data = process.stdout.read(width * height)
            pictures.append(read_frame(np.frombuffer(data, dtype=np.uint8).reshape(height, width)))
    assert process.returncode == 0
    return pictures


def read_frame_numbers(path: Path) -> list[int]:
    """Returns the number that each frame of a file carries, in order of presentation."""
    return [picture.number for picture in read_pictures(path)]


def read_audio(path: Path) -> Signal:
    """Returns the sound of a file as mono at 48 kHz, from time zero of the file."""
    arguments = [ffmpeg_exe(), "-nostdin", "-v", "error", "-i", str(path), "-map", "0:a:0"]
    arguments += ["-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", str(CLICK_SAMPLE_RATE)]
    done = subprocess.run([*arguments, "-f", "f32le", "pipe:1"], check=True, capture_output=True)
    return np.frombuffer(done.stdout, dtype="<f4")


def audio_click_times(path: Path) -> list[float]:
    """Returns the seconds from time zero of the file at which its sound clicks."""
    return click_times(read_audio(path))
