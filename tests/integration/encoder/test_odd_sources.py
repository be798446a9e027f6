"""Sources that are damaged or change on the way: exported right, or refused with a reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.encoder.errors import InvalidSource
from tests.integration.encoder.conftest import MakeClip, run_ffmpeg
from tests.media.exporting import export
from tests.media.frame_codes import Clip, audio_click_times, read_pictures
from videoexport.v1 import export_pb2 as pb

PLAIN = Clip(frames=100)
Join = Callable[[Clip], Awaitable[Path]]


@pytest.fixture
def joined(clip: MakeClip, tmp_path: Path) -> Join:
    """Return a recording of 100 frames that goes on as another clip, as broadcasts do."""

    async def join(second: Clip) -> Path:
        script, path = tmp_path / "script.txt", tmp_path / "joined.ts"
        first = clip(replace(PLAIN, container="ts", clicks=second.clicks))
        script.write_text(f"file {first}\nduration 4\nfile {clip(second)}\n")
        await run_ffmpeg(*("-f", "concat", "-safe", "0", "-i", script), *("-c", "copy", path))
        return path

    return join


@pytest.mark.parametrize("ranges", [[(90, 110)], [(120, 125), (10, 15)]], ids=["across", "apart"])
async def test_pictures_that_change_their_size_are_fitted_each_by_itself(
    joined: Join, tmp_path: Path, ranges: list[tuple[int, int]]
) -> None:
    later = replace(PLAIN, container="ts", width=96, height=72)
    made = await export(await joined(later), ranges, tmp_path)
    wanted = [frame for start, end in ranges for frame in range(start, end)]
    pictures = read_pictures(made.path)
    assert [picture.number for picture in pictures] == [frame % 100 for frame in wanted]
    for frame, picture in zip(wanted, pictures, strict=True):
        left, width = (0, 256) if frame < 100 else (32, 192)
        assert abs(picture.left - left) <= 2
        assert abs(picture.width - width) <= 2
        assert picture.height >= 142


async def test_pictures_that_change_their_size_are_cropped_as_the_first_ones(
    joined: Join, tmp_path: Path
) -> None:
    later = replace(PLAIN, container="ts", width=96, height=72)
    source = await joined(later)
    made = await export(source, [(90, 110)], tmp_path, size=(256, 144), fit=pb.FIT_CROP)
    pictures = read_pictures(made.path)
    assert [picture.number for picture in pictures] == [n % 100 for n in range(90, 110)]
    for picture in pictures[10:]:
        assert (abs(picture.left - 32) <= 2, abs(picture.width - 192) <= 2) == (True, True)


@pytest.mark.parametrize(
    ("channels", "ranges"),
    [
        # From stereo to 5.1; across it, on both sides of it, there and back, and not at all.
        (6, [(51, 150)]),
        (6, [(61, 96), (106, 150)]),
        (6, [(111, 150), (21, 60), (91, 130)]),
        (6, [(131, 170)]),
        (1, [(51, 150)]),
    ],
)
async def test_sound_that_changes_its_channels_is_heard_in_its_place(
    joined: Join, tmp_path: Path, channels: int, ranges: list[tuple[int, int]]
) -> None:
    source = await joined(replace(PLAIN, container="ts", clicks=0.2, channels=channels))
    made = await export(source, ranges, tmp_path)
    assert made.warnings == ()
    wanted = [frame for start, end in ranges for frame in range(start, end)]
    assert [picture.number for picture in read_pictures(made.path)] == [n % 100 for n in wanted]
    # With every fifth frame of either; right after the change, the packets' times are guessed.
    clicks = [n / 25 for n, frame in enumerate(wanted) if frame % 5 == 0 and frame % 100 > 5]
    heard = audio_click_times(made.path)
    near = [min(heard, key=lambda time: abs(time - click)) for click in clicks]
    assert np.abs(np.subtract(near, clicks)).max() < 0.005
    assert len(heard) <= len(clicks) + 2 * len(ranges)


async def test_sound_that_changes_its_rate_is_refused_only_where_it_is_wanted(
    joined: Join, tmp_path: Path
) -> None:
    source = await joined(replace(PLAIN, container="ts", muxer=("-ar", "32000")))
    with pytest.raises(InvalidSource, match="the sound changes its sample rate"):
        await export(source, [(50, 150)], tmp_path)
    made = await export(source, [(130, 140)], tmp_path)
    assert [picture.number for picture in read_pictures(made.path)] == list(range(30, 40))
