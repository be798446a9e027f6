"""The test kit itself: what it reads is what it wrote, or it says so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.frame_codes import (
    CLICK_SAMPLE_RATE,
    Clip,
    UnreadableFrame,
    click_signal,
    click_times,
    draw_frame,
    read_frame,
)


@given(st.integers(0, 65535), st.sampled_from([(64, 36), (128, 72), (72, 128), (250, 90)]))
def test_number_is_read_back(number: int, size: tuple[int, int]) -> None:
    picture = read_frame(draw_frame(number, *size))
    assert picture.number == number
    assert (picture.left, picture.top, picture.width, picture.height) == (0, 0, *size)


@given(st.integers(0, 65535), st.integers(0, 9))
def test_number_and_place_are_read_from_a_padded_noisy_picture(number: int, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 8, (144, 256))
    canvas = np.full((144, 256), 16.0)
    canvas[36:108, 64:192] = draw_frame(number, 128, 72)
    picture = read_frame(np.clip(canvas + noise, 0, 255).astype(np.uint8))
    assert picture.number == number
    assert (picture.left, picture.top, picture.width, picture.height) == (64, 36, 128, 72)


@given(st.integers(0, 65535), st.integers(0, 23))
def test_single_wrong_cell_is_noticed(number: int, bit: int) -> None:
    frame = draw_frame(number, 100, 50)
    row, column = divmod(bit, 8)
    cell = frame[10 * (row + 1) : 10 * (row + 2), 10 * (column + 1) : 10 * (column + 2)]
    cell[:] = 251 - cell
    with pytest.raises(UnreadableFrame):
        read_frame(frame)


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_turned_picture_is_not_taken_for_upright(turn: int) -> None:
    with pytest.raises(UnreadableFrame):
        read_frame(np.rot90(draw_frame(1234, 128, 72), turn))


def test_black_frame_has_no_number() -> None:
    with pytest.raises(UnreadableFrame, match="black"):
        read_frame(np.full((72, 128), 16, dtype=np.uint8))


@given(st.integers(0, 2000))
def test_clicks_are_found_to_a_tenth_of_a_millisecond(shift: int) -> None:
    signal = np.concatenate([np.zeros(shift, dtype=np.float32), click_signal(3, 0.5)])
    offset = shift / CLICK_SAMPLE_RATE
    expected = [offset + time for time in (0.5, 1.0, 1.5, 2.0, 2.5)]
    assert click_times(signal) == pytest.approx(expected, abs=1e-4)


def test_silence_has_no_clicks() -> None:
    assert click_times(np.zeros(1000, dtype=np.float32)) == []


def test_varying_durations_lay_pictures_out_on_the_grid() -> None:
    clip = Clip(frames=5, durations=(1, 2, 3))
    assert clip.numbers == [0, 1, 3, 6, 7]
    assert clip.grid_frames == 9
