"""Sound of every kind: which stream it is of, how its channels become two, when it is heard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.integration.encoder.conftest import MakeClip, run_ffmpeg
from tests.integration.encoder.probing import probe_bytes
from tests.media.exporting import export
from tests.media.frame_codes import Clip, Signal, audio_click_times
from tests.media.sounds import RATE, Track, channels_in_turn, clip_with, gains, read_stereo

LEFT, RIGHT = "FL", "FR"


def tone(hertz: int, seconds: float = 1.0, level: float = 0.25) -> Signal:
    wave = level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)
    return wave.astype(np.float32)[:, None]


def pitch(side: Signal) -> int:
    """Return the loudest frequency of a sound in Hz; 0 of silence."""
    spectrum = np.abs(np.fft.rfft(side * np.hanning(side.size)))
    return round(float(np.argmax(spectrum)) * RATE / side.size) if np.abs(side).max() > 1e-3 else 0


def pitches(path: Path) -> tuple[int, int]:
    middle = read_stereo(path)[RATE // 4 : -RATE // 4]
    return pitch(middle[:, 0]), pitch(middle[:, 1])


# Which stream


async def test_every_stream_of_sound_is_listed(tmp_path: Path) -> None:
    tracks = [
        Track(tone(400), "mono", ("aac",), (("language", "eng"),)),
        Track(tone(600), "mono", ("ac3",), (("language", "por"), ("title", "Dublagem")), True),
        Track(np.tile(tone(800), 2), "stereo", ("flac",)),
    ]
    info = await probe_bytes(clip_with(tracks, tmp_path / "three.mkv").read_bytes())
    told = [
        (each.index, each.codec, each.channel_layout, each.language, each.title, each.default)
        for each in info.audio_streams
    ]
    assert told == [
        (1, "aac", "mono", "eng", "", False),
        (2, "ac3", "mono", "por", "Dublagem", True),
        (3, "flac", "stereo", "", "", False),
    ]
    assert all(each.sample_rate == RATE for each in info.audio_streams)
    assert info.audio == info.audio_streams[1]


async def test_language_and_title_of_mp4_are_told(tmp_path: Path) -> None:
    tags = (("language", "eng"), ("title", "Commentary"))
    track = Track(tone(400), "mono", ("aac",), tags)
    info = await probe_bytes(clip_with([track], tmp_path / "one.mp4").read_bytes())
    told = [(each.language, each.title) for each in info.audio_streams]
    assert told == [("eng", "Commentary")]


async def test_as_many_streams_are_listed_as_a_task_can_carry(tmp_path: Path) -> None:
    tracks = [Track(tone(400, 0.1), "mono")] * 70
    info = await probe_bytes(clip_with(tracks, tmp_path / "many.mkv").read_bytes())
    assert [each.index for each in info.audio_streams] == list(range(1, 65))


@pytest.mark.parametrize(("stream", "heard"), [(None, 600), (1, 400), (2, 600), (3, 800)])
async def test_sound_is_of_the_stream_that_is_asked_for(
    tmp_path: Path, stream: int | None, heard: int
) -> None:
    tracks = [
        Track(tone(400), "mono"),
        Track(tone(600), "mono", default=True),
        Track(tone(800), "mono"),
    ]
    source = clip_with(tracks, tmp_path / "three.mkv")
    made = await export(source, [(0, 25)], tmp_path, audio_stream=stream)
    assert pitches(made.path) == (heard, heard)


@pytest.mark.parametrize("stream", [1, 3])
async def test_mono_streams_that_are_left_and_right_are_heard_as_such(
    tmp_path: Path, stream: int
) -> None:
    tracks = [Track(tone(400), LEFT), Track(tone(600), "mono"), Track(tone(800), RIGHT)]
    source = clip_with(tracks, tmp_path / "pair.mov")
    made = await export(source, [(0, 10), (12, 25)], tmp_path, audio_stream=stream)
    assert pitches(made.path) == (400, 800)
    # Neither is any quieter for it.
    assert np.abs(read_stereo(made.path)[RATE // 4 : RATE // 3]).max() == pytest.approx(0.25, 0.1)


@pytest.mark.parametrize(("stream", "heard"), [(1, 400), (2, 600), (3, 800)])
async def test_mono_streams_that_are_no_pair_are_heard_on_both_sides(
    tmp_path: Path, stream: int, heard: int
) -> None:
    tracks = [Track(tone(400), LEFT), Track(tone(600), "mono"), Track(tone(800), LEFT)]
    source = clip_with(tracks, tmp_path / "no-pair.mov")
    made = await export(source, [(0, 25)], tmp_path, audio_stream=stream)
    assert pitches(made.path) == (heard, heard)


async def test_pair_of_which_one_side_is_shorter_is_heard_to_the_end(tmp_path: Path) -> None:
    tracks = [Track(tone(400, 0.6), LEFT), Track(tone(800, 2.0), RIGHT)]
    source = clip_with(tracks, tmp_path / "short.mov")
    made = await export(source, [(0, 50)], tmp_path)
    heard = read_stereo(made.path)[RATE : 2 * RATE - RATE // 10]
    assert (pitch(heard[:, 0]), pitch(heard[:, 1])) == (0, 800)


# How channels become two

# ITU-R BS.775-4, annex 4: centre and surrounds 3 dB lower, low frequencies left out; lowered
# until all of a side's channels together are no more than full scale.
L, R, C, X = (1.0, 0.0), (0.0, 1.0), (0.7071, 0.7071), (0.0, 0.0)
LS, RS, S = (0.7071, 0.0), (0.0, 0.7071), (0.5, 0.5)
LAYOUTS: list[tuple[str, str, int, list[tuple[float, float]]]] = [
    ("mono", "mov", 1, [C]),
    ("stereo", "mov", 2, [L, R]),
    ("3.0", "mov", 3, [L, R, C]),
    ("quad", "mov", 4, [L, R, LS, RS]),
    ("4.0", "mov", 4, [L, R, C, S]),
    ("5.0", "mov", 5, [L, R, C, LS, RS]),
    ("5.1", "mov", 6, [L, R, C, X, LS, RS]),
    ("5.1(side)", "mov", 6, [L, R, C, X, LS, RS]),
    ("6.1", "mov", 7, [L, R, C, X, S, LS, RS]),
    ("7.1", "mov", 8, [L, R, C, X, LS, RS, LS, RS]),
    ("7.1(wide)", "mov", 8, [L, R, C, X, LS, RS, L, R]),
    ("5.1.4", "mov", 10, [L, R, C, X, LS, RS, LS, RS, LS, RS]),
    ("7.1.4", "mov", 12, [L, R, C, X, *[LS, RS] * 4]),
    ("FL+FR+BL", "mov", 3, [L, R, LS]),
    # Without a layout.
    ("", "mkv", 1, [C]),
    ("", "mkv", 2, [L, R]),
    ("", "mkv", 6, [L, R, C, X, LS, RS]),
    ("", "mkv", 8, [L, R, C, X, LS, RS, LS, RS]),
    ("", "mkv", 9, [L, R, *[X] * 7]),
    ("", "mkv", 16, [L, R, *[X] * 14]),
]


@pytest.mark.parametrize(
    ("layout", "container", "count", "wanted"), LAYOUTS, ids=lambda value: str(value)[:12]
)
async def test_channels_are_folded_by_the_standard(
    tmp_path: Path,
    layout: str,
    container: str,
    count: int,
    wanted: Sequence[tuple[float, float]],
) -> None:
    source = clip_with([Track(channels_in_turn(count), layout)], tmp_path / f"source.{container}")
    made = await export(source, None, tmp_path)
    assert made.info.audio.channels == count
    if layout:
        assert layout in made.info.audio.channel_layout
    most = max(1.0, *(sum(gain[side] for gain in wanted) for side in (0, 1)))
    expected = [(left / most, right / most) for left, right in wanted]
    found = gains(read_stereo(made.path), count)
    assert np.allclose(found, expected, atol=0.01), list(zip(found, expected, strict=True))


@pytest.mark.parametrize(("layout", "count"), [("5.1", 6), ("7.1", 8), ("5.1.4", 10)])
async def test_loud_channels_together_do_not_exceed_full_scale(
    tmp_path: Path, layout: str, count: int
) -> None:
    source = clip_with(
        [Track(np.tile(tone(1000, level=0.99), count), layout, ("pcm_f32le",))],
        tmp_path / "loud.mov",
    )
    made = await export(source, [(0, 25)], tmp_path)
    loudest = np.abs(read_stereo(made.path)).max()
    assert 0.95 < loudest <= 1.0


# Where there is none


async def test_source_without_sound_makes_an_output_without(clip: MakeClip, tmp_path: Path) -> None:
    made = await export(clip(Clip(frames=20, clicks=None)), None, tmp_path)
    assert not made.info.audio_streams
    assert made.facts.audio_duration is None


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
async def test_sound_that_begins_late_ends_early_and_has_a_hole_is_silent_there(
    clip: MakeClip, tmp_path: Path, container: str
) -> None:
    whole = clip(Clip(frames=150, clicks=0.2))
    holed = tmp_path / f"holed.{container}"
    # Packets are left out, so timestamps jump where they were.
    kept = "between(t,1,2)+between(t,3,4.4)"
    await run_ffmpeg(
        *("-i", whole, "-map", "0", "-c:v", "copy", "-c:a", "aac"),
        *("-filter:a", f"aselect='{kept}'", holed),
    )
    made = await export(holed, [(0, 150), (60, 90)], tmp_path)
    assert made.facts.audio_duration == made.facts.duration
    heard = audio_click_times(made.path)
    inside = [n * 0.2 for n in range(1, 30) if 1.05 < n * 0.2 < 1.95 or 3.05 < n * 0.2 < 4.35]
    wanted = [*inside, *(6 + time - 2.4 for time in inside if 2.4 < time < 3.55)]
    # Those at an edge of a hole may or may not be heard.
    assert all(min(abs(time - other) for other in heard) < 0.005 for time in wanted)
    silent = read_stereo(made.path)
    for start, end in ((0.1, 0.9), (2.1, 2.9), (4.5, 5.9), (6.05, 6.5)):
        assert np.abs(silent[round(start * RATE) : round(end * RATE)]).max() < 1e-3
