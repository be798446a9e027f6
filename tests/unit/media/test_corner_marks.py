"""The corners of a frame tell which way up it is and whether its colours are right."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tests.media.corner_marks import (
    COLOURS,
    ORIENTATIONS,
    UPRIGHT,
    Image,
    Stored,
    look_apart,
    luma_of,
    painted,
    read_corners,
    undone,
)
from tests.media.frame_codes import draw_frame, read_frame
from tests.media.read_back import read_picture

SIZES = [(64, 36), (128, 72), (72, 128), (250, 90), (256, 144)]
# Luma's weights of red and blue.
BT601, BT709 = (0.299, 0.114), (0.2126, 0.0722)


def frame(number: int = 1234, size: tuple[int, int] = (128, 72)) -> Image:
    return painted(draw_frame(number, *size))


def changed(rgb: Image, orientation: str) -> Image:
    """What is seen of an upright picture that was mirrored and turned so."""
    mirrored, quarters = ORIENTATIONS[orientation]
    return np.rot90(np.fliplr(rgb) if mirrored else rgb, -quarters)


def through(rgb: Image, stored: tuple[float, float], read: tuple[float, float]) -> Image:
    """A picture stored with one matrix and read with another."""
    (kr, kb), (r2, b2) = stored, read
    red, green, blue = (rgb[:, :, channel].astype(float) for channel in range(3))
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    new_red, new_blue = luma + (2 - 2 * r2) * cr, luma + (2 - 2 * b2) * cb
    new_green = (luma - r2 * new_red - b2 * new_blue) / (1 - r2 - b2)
    return np.clip(np.stack([new_red, new_green, new_blue], axis=2), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_picture_is_read_whichever_way_up_it_is(size: tuple[int, int], orientation: str) -> None:
    seen = read_picture(changed(frame(4321, size), orientation))
    assert seen.number == 4321
    assert seen.corners is not None
    assert seen.corners.orientation == orientation
    assert max(seen.corners.delta_e) < 0.5


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_what_was_done_to_a_picture_is_undone(orientation: str) -> None:
    assert np.array_equal(undone(changed(frame(), orientation), orientation), frame())


def test_number_is_the_one_of_the_grey_frame() -> None:
    picture = read_frame(luma_of(frame(999)))
    assert (picture.number, picture.width, picture.height) == (999, 128, 72)


def test_place_in_padding_is_read() -> None:
    canvas = np.zeros((144, 256, 3), dtype=np.uint8)
    canvas[36:108, 64:192] = frame()
    assert read_picture(canvas).box == (64, 36, 128, 72)


def test_black_frame_holds_nothing() -> None:
    seen = read_picture(np.zeros((72, 128, 3), dtype=np.uint8))
    assert (seen.number, seen.corners) == (None, None)


@pytest.mark.parametrize(("stored", "read"), [(BT601, BT709), (BT709, BT601)])
def test_wrong_matrix_is_seen_and_not_taken_for_another_orientation(
    stored: tuple[float, float], read: tuple[float, float]
) -> None:
    corners = read_corners(through(frame(), stored, read))
    assert corners.orientation == UPRIGHT
    assert max(corners.delta_e) > 4
    assert max(read_corners(through(frame(), stored, stored)).delta_e) < 1


@pytest.mark.parametrize("full_for_limited", [True, False])
def test_wrong_range_is_seen(full_for_limited: bool) -> None:
    levels = frame().astype(float)
    wrong = 16 + levels * 219 / 255 if full_for_limited else (levels - 16) * 255 / 219
    assert max(read_corners(np.clip(wrong, 0, 255).astype(np.uint8)).delta_e) > 3.5


def test_colours_are_no_others() -> None:
    swapped = frame()[:, :, ::-1]
    assert read_corners(swapped).orientation == "?"


def test_colours_are_far_apart_and_brighter_than_padding() -> None:
    for one, other in combinations(COLOURS, 2):
        assert look_apart(one, other) > 27
    assert luma_of(np.array([COLOURS], dtype=np.uint8)).min() > 90


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (Stored(), ["out_color_matrix=bt709", "out_range=tv", "color_trc=bt709", "range=tv"]),
        (Stored(full_range=True), ["out_range=pc", "range=pc"]),
        (Stored("smpte170m", tagged=False), ["out_color_matrix=smpte170m", "colorspace=unknown"]),
        (Stored("bt2020nc"), ["color_primaries=bt2020:", "color_trc=bt2020-10"]),
    ],
)
def test_filters_say_all_of_how_pictures_are_stored(stored: Stored, words: list[str]) -> None:
    filters = stored.filters("yuv420p")
    assert all(word in filters for word in words), filters
