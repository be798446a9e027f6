"""Files are read back as players show them, by what they say of their colours."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from tests.media.corner_marks import UPRIGHT, Stored
from tests.media.frame_codes import CLICK_TONES, Clip, click_times, click_tone, generate, read_audio
from tests.media.read_back import Shown, read_back, rgb_filters

CLIP = Clip(frames=4, colours=Stored(), clicks=None, encoder=("-crf", "6"))


def shown(folder: Path, clip: Clip) -> Shown:
    return read_back(generate(clip, folder))


def worst(found: Shown) -> float:
    assert all(frame.corners and frame.corners.orientation == UPRIGHT for frame in found.frames)
    return max(max(frame.corners.delta_e) for frame in found.frames if frame.corners)


def test_pictures_are_read_with_their_times_and_size(tmp_path: Path) -> None:
    found = shown(tmp_path, CLIP)
    assert [frame.number for frame in found.frames] == [0, 1, 2, 3]
    assert found.times == tuple(Fraction(k, 25) for k in range(4))
    assert (found.rate, found.size, found.square) == (25, (128, 72), True)
    assert not shown(tmp_path, replace(CLIP, sar=Fraction(2))).square


@pytest.mark.parametrize(
    "stored",
    [
        Stored(),
        Stored(full_range=True),
        Stored("smpte170m"),
        Stored("smpte170m", full_range=True),
        Stored("bt2020nc"),
        Stored("smpte170m", tagged=False),
    ],
)
def test_colours_are_read_by_their_tags(tmp_path: Path, stored: Stored) -> None:
    assert worst(shown(tmp_path, replace(CLIP, colours=stored))) < 1.5


def test_colours_that_are_not_what_a_player_takes_them_for_are_off(tmp_path: Path) -> None:
    assert worst(shown(tmp_path, replace(CLIP, colours=Stored(tagged=False)))) > 4


def test_matrix_is_guessed_by_size_where_nothing_is_said() -> None:
    assert "in_color_matrix=smpte170m:in_range=tv" in rgb_filters(2, 0, 854, 480)
    assert "in_color_matrix=bt709:in_range=tv" in rgb_filters(2, 1, 1280, 720)
    assert "in_color_matrix=smpte170m:in_range=pc" in rgb_filters(6, 2, 1280, 720)


def test_clicks_have_their_tones(tmp_path: Path) -> None:
    clip = replace(CLIP, frames=100, clicks=0.2, tones=CLICK_TONES)
    signal = read_audio(generate(clip, tmp_path))
    heard = [click_tone(signal, time, CLICK_TONES) for time in click_times(signal)]
    assert heard == [k % 8 for k in range(1, 20)]
