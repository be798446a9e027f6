"""The test clip: every frame shows its time, every second begins with a tone."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import av
import numpy as np

from services.local.clip import FRAMES_PER_SECOND, clip_arguments, timecode_clip
from tests.media.frame_codes import CLICK_SAMPLE_RATE, read_audio

SECONDS = 3


def test_clip_shows_another_timecode_in_every_frame(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    subprocess.run(clip_arguments(clip, seconds=SECONDS), check=True, capture_output=True)
    with av.open(clip) as container:
        # Where the last digits of time and frame number are, at eight times their size.
        digits = [
            frame.to_ndarray(format="gray")[390:680, 800:1040]
            for frame in container.decode(video=0)
        ]
    assert len(digits) == SECONDS * FRAMES_PER_SECOND
    for before, after in itertools.pairwise(digits):
        assert np.abs(before.astype(int) - after).max() > 60


def test_clip_sounds_in_the_first_tenth_of_every_second(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    subprocess.run(clip_arguments(clip, seconds=SECONDS), check=True, capture_output=True)
    tenths = read_audio(clip)[: SECONDS * CLICK_SAMPLE_RATE].reshape(SECONDS * 10, -1)
    loud = [index for index, tenth in enumerate(tenths) if np.sqrt(np.mean(tenth**2)) > 0.1]
    assert loud == [0, 10, 20]


async def test_clip_is_made_once(tmp_path: Path) -> None:
    said: list[str] = []
    clip = await timecode_clip(tmp_path, said.append, seconds=1)
    assert sorted(os.listdir(tmp_path)) == ["ffmpeg.log", clip.name]
    made_at = os.stat(clip).st_mtime_ns
    assert await timecode_clip(tmp_path, said.append, seconds=1) == clip
    assert os.stat(clip).st_mtime_ns == made_at
    assert len(said) == 1
