"""Exports in parts: exact at every join, sounding the same, equal parts of equal bytes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.integration.encoder.conftest import MakeClip
from tests.media.exporting import Range, expected_clicks, expected_numbers, export, export_in_parts
from tests.media.frame_codes import Clip, audio_click_times, read_audio, read_frame_numbers

NTSC = Fraction(30000, 1001)
# A whole one, a jump back, a repetition, neighbours, one under a chunk's least length.
RANGES: list[Range] = [(0, 160), (37, 140), (37, 140), (140, 199), (100, 108)]
SOURCES = {
    "mp4": Clip(frames=200),
    "mp4 of open GOPs": Clip(frames=200, open_gop=True),
    "mp4 of one long GOP": Clip(frames=200, gop=250),
    "mp4 of 29.97 fps": Clip(frames=200, rate=NTSC),
    "mp4 without sound": Clip(frames=200, clicks=None),
    "mkv of a late start": Clip(frames=200, container="mkv", first_frame_time=1.5),
    "ts": Clip(frames=200, container="ts"),
}


def packet_times(path: Path) -> list[Fraction]:
    """Return when each picture of a file is shown, in order."""
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        tick = video.time_base
        assert tick is not None
        times = [packet.pts * tick for packet in file.demux(video) if packet.pts is not None]
    return sorted(times)


@pytest.mark.parametrize("name", SOURCES)
async def test_every_frame_is_the_right_one_and_sound_is_aligned(
    clip: MakeClip, tmp_path: Path, name: str
) -> None:
    source = SOURCES[name]
    made = await export_in_parts(clip(source), RANGES, tmp_path, chunk_seconds=1)
    assert len(made.chunks) > 2 * len(RANGES)
    assert read_frame_numbers(made.path) == expected_numbers(source, RANGES)
    assert made.facts.keyframes_decoded >= len(made.chunks)
    assert made.facts.index_in_front
    # Exactly on the grid, to the last frame: no rounding error of a join is carried on.
    times = packet_times(made.path)
    assert times == [times[0] + k / source.rate for k in range(len(times))]
    if source.clicks is not None:
        heard = audio_click_times(made.path)
        for time in expected_clicks(source, RANGES):
            assert min(abs(time - click) for click in heard) <= 0.005


async def test_a_thousand_frames_of_ntsc_stay_on_the_grid(clip: MakeClip, tmp_path: Path) -> None:
    source = Clip(frames=30, rate=NTSC, clicks=None)
    ranges = [(0, 7), (3, 10)] * 80
    made = await export_in_parts(clip(source), ranges, tmp_path, chunk_seconds=1)
    times = packet_times(made.path)
    assert times == [times[0] + k / NTSC for k in range(7 * 160)]


async def test_sound_is_the_same_as_in_one_piece(clip: MakeClip, tmp_path: Path) -> None:
    source = clip(Clip(frames=200))
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = await export(source, RANGES, tmp_path / "whole")
    parts = await export_in_parts(source, RANGES, tmp_path / "parts", chunk_seconds=1)
    assert np.array_equal(read_audio(whole.path), read_audio(parts.path))


async def test_equal_chunks_of_two_exports_have_equal_bytes(clip: MakeClip, tmp_path: Path) -> None:
    source = clip(Clip(frames=200))
    made = {}
    for name, ranges in {"before": [(0, 100), (100, 200)], "after": [(110, 200), (0, 100)]}.items():
        (tmp_path / name).mkdir()
        done = await export_in_parts(source, ranges, tmp_path / name, chunk_seconds=1)
        made[name] = dict(zip(done.chunks, done.parts, strict=False))
    shared = made["before"].keys() & made["after"].keys()
    assert len(shared) >= 5
    for chunk in shared:
        assert made["before"][chunk].read_bytes() == made["after"][chunk].read_bytes()


async def test_sound_fades_at_a_cut_and_not_where_segments_touch(
    clip: MakeClip, tmp_path: Path
) -> None:
    source = clip(Clip(frames=200))
    made = await export_in_parts(
        source, [(0, 50), (50, 100), (110, 150)], tmp_path, chunk_seconds=1
    )
    script = (tmp_path / "sound/output.audio.txt").read_text()
    assert script.count("afade") == 2
    assert made.facts.audio_duration == Fraction(140, 25)
