"""How large outputs are, and what of a source they show."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.geometry import (
    MAX_SIDE,
    Area,
    Frame,
    cropped_area,
    fitted_area,
    frame_of,
    nearest_resolution,
    upright_sar,
    upright_size,
)
from videoexport.v1 import export_pb2 as pb


def video(
    width: int, height: int, rotation: int = 0, sar: tuple[int, int] = (1, 1)
) -> pb.VideoStream:
    ratio = pb.Rational(numerator=sar[0], denominator=sar[1])
    return pb.VideoStream(width=width, height=height, rotation=rotation, sample_aspect_ratio=ratio)


videos = st.builds(
    video,
    st.integers(2, MAX_SIDE),
    st.integers(2, MAX_SIDE),
    st.sampled_from([0, 90, 180, 270]),
    st.tuples(st.integers(1, 100), st.integers(1, 100)),
)


def shape(source: pb.VideoStream) -> Fraction:
    """The width of a source's picture over its height, as it is shown."""
    width, height = upright_size(source)
    return Fraction(width, height) * upright_sar(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (video(1280, 720), Area(1280, 720, 0, 0)),
        (video(640, 480), Area(960, 720, 160, 0)),
        (video(1920, 800), Area(1280, 534, 0, 92)),
        (video(720, 1280), Area(406, 720, 436, 0)),
        (video(1280, 720, rotation=90), Area(406, 720, 436, 0)),
        (video(1280, 720, rotation=180), Area(1280, 720, 0, 0)),
        (video(720, 576, sar=(64, 45)), Area(1280, 720, 0, 0)),
        (video(720, 576, sar=(16, 15)), Area(960, 720, 160, 0)),
        (video(576, 720, rotation=90, sar=(45, 64)), Area(1280, 720, 0, 0)),
        (video(1280, 720, sar=(0, 1)), Area(1280, 720, 0, 0)),
        (video(8192, 16), Area(1280, 2, 0, 358)),
    ],
)
def test_padded_picture_is_fitted_and_centred(source: pb.VideoStream, expected: Area) -> None:
    assert fitted_area(source, 1280, 720) == expected


@given(videos)
def test_padded_picture_is_inside_even_and_keeps_its_shape(source: pb.VideoStream) -> None:
    area = fitted_area(source, 1280, 720)
    for length in (area.width, area.height, area.left, area.top):
        assert length % 2 == 0
    assert 0 <= area.left <= area.left + area.width <= 1280
    assert 0 <= area.top <= area.top + area.height <= 720
    # One side fills the output, the other is off by less than its rounding.
    assert area.width == 1280 or area.height == 720
    aspect = shape(source)
    error = abs(float(area.height * aspect) - area.width)
    assert error <= max(1.0, float(aspect)) + 1 or 2 in (area.width, area.height)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (video(1280, 720), Area(1280, 720, 0, 0)),
        (video(640, 480), Area(640, 360, 0, 60)),
        (video(1920, 800), Area(1422, 800, 248, 0)),
        (video(1280, 720, rotation=90), Area(720, 406, 0, 436)),
        (video(720, 576, sar=(16, 15)), Area(720, 432, 0, 72)),
        (video(853, 479), Area(852, 478, 0, 0)),
        (video(8192, 16), Area(28, 16, 4082, 0)),
    ],
)
def test_cropped_picture_is_the_middle_in_the_shape_of_the_frame(
    source: pb.VideoStream, expected: Area
) -> None:
    assert cropped_area(source, 1280, 720) == expected


@given(videos)
def test_cropped_picture_is_within_the_source(source: pb.VideoStream) -> None:
    area = cropped_area(source, 1280, 720)
    width, height = upright_size(source)
    for length in (area.width, area.height, area.left, area.top):
        assert length % 2 == 0
    assert area.width >= 2
    assert area.height >= 2
    assert 0 <= area.left <= area.left + area.width <= width
    assert 0 <= area.top <= area.top + area.height <= height
    # One side is whole, but for an odd row or column.
    assert width - area.width < 2 or height - area.height < 2


@pytest.mark.parametrize(
    ("source", "size"),
    [
        (video(1920, 1080), (1920, 1080)),
        (video(1920, 1080, rotation=90), (1080, 1920)),
        (video(853, 479), (852, 478)),
        (video(720, 576, sar=(64, 45)), (1024, 576)),
        (video(1440, 1080, sar=(4, 3)), (1920, 1080)),
        (video(1920, 1080, sar=(1, 2)), (1920, 2160)),
        (video(576, 720, rotation=90, sar=(45, 64)), (1024, 576)),
        (video(8192, 8192, sar=(2, 1)), (8192, 4096)),
        (video(8192, 2, sar=(1, 1)), (8192, 2)),
    ],
)
def test_size_of_the_source_is_the_one_at_which_it_is_shown(
    source: pb.VideoStream, size: tuple[int, int]
) -> None:
    settings = pb.ExportSettings(resolution=pb.RESOLUTION_SOURCE, fit=pb.FIT_STRETCH)
    assert frame_of(source, settings) == Frame(pb.RESOLUTION_SOURCE, *size, pb.FIT_CROP)


@given(videos)
def test_size_of_any_source_can_be_encoded(source: pb.VideoStream) -> None:
    frame = frame_of(source, pb.ExportSettings(resolution=pb.RESOLUTION_SOURCE))
    for side in (frame.width, frame.height):
        assert 2 <= side <= MAX_SIDE
        assert side % 2 == 0


def test_defaults_follow_the_lines_that_are_shown() -> None:
    none = pb.ExportSettings()
    assert frame_of(video(1280, 720), none) == Frame(pb.RESOLUTION_720P, 1280, 720, pb.FIT_PAD)
    assert frame_of(video(1280, 722), none).resolution == pb.RESOLUTION_1080P
    assert frame_of(video(1280, 720, rotation=90), none).resolution == pb.RESOLUTION_1080P


def test_speed_of_a_size_without_a_name_is_the_nearest_ones_in_proportion() -> None:
    assert nearest_resolution(1280, 720) == (pb.RESOLUTION_720P, 1.0)
    assert nearest_resolution(720, 1280) == (pb.RESOLUTION_720P, 1.0)
    assert nearest_resolution(2560, 720) == (pb.RESOLUTION_1080P, pytest.approx(8 / 9))
    assert nearest_resolution(8192, 8192)[0] == pb.RESOLUTION_2160P
    assert nearest_resolution(2, 2)[0] == pb.RESOLUTION_480P
