"""What is copied of an export, and why not."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.checks import settings_violations
from services.common.errors import DomainError, Reason
from services.common.frames import FrameRange
from services.common.planner import duration_of
from services.common.smart_copy import copied_run, is_examined, plan_with_copies
from videoexport.v1 import export_pb2 as pb

RATE = Fraction(25)


def source(**changes: object) -> pb.SourceInfo:
    video = pb.VideoStream(
        frame_rate=pb.Rational(numerator=25, denominator=1),
        frame_count=1000,
        width=1920,
        height=1080,
        keyframes=range(0, 1000, 50),
        bit_rate=8_000_000,
        avc_configuration=b"\1",
    )
    for name, value in changes.items():
        setattr(video, name, value)
    return pb.SourceInfo(video=video)


def segment(start: int, end: int) -> pb.Segment:
    return pb.Segment(start_time=duration_of(start / RATE), end_time=duration_of(end / RATE))


def planned(
    *spans: tuple[int, int],
    info: pb.SourceInfo | None = None,
    not_copied: str = "",
    **settings: object,
) -> tuple[pb.Plan, list[str]]:
    asked = pb.ExportSettings(quality=pb.QUALITY_SOURCE, **settings)  # type: ignore[arg-type]
    segments = [segment(*span) for span in spans]
    plan, warnings = plan_with_copies(info or source(), segments, asked, not_copied)
    assert all(item.code == Reason.COPY_NOT_POSSIBLE for item in warnings)
    return plan, [item.message for item in warnings]


def test_keyframes_that_begin_after_a_span_are_none_of_it() -> None:
    video = pb.VideoStream(frame_count=400, keyframes=[100, 200, 300])
    assert copied_run(video, FrameRange(10, 50)) is None
    assert copied_run(video, FrameRange(10, 100)) is None
    assert copied_run(video, FrameRange(10, 250)) == FrameRange(100, 200)


@pytest.mark.parametrize(
    ("span", "run"),
    [
        ((30, 180), (50, 150)),
        ((50, 150), (50, 150)),
        ((51, 150), (100, 150)),
        ((50, 149), (50, 100)),
        ((51, 99), None),
        ((50, 99), None),
        ((0, 1000), (0, 1000)),
        ((940, 1000), (950, 1000)),
        ((940, 999), None),
        ((960, 1000), None),
        ((50, 100), (50, 100)),
    ],
)
def test_whole_groups_are_copied(span: tuple[int, int], run: tuple[int, int] | None) -> None:
    found = copied_run(source().video, FrameRange(*span))
    assert found == (None if run is None else FrameRange(*run))


def test_source_without_known_keyframes_has_no_run() -> None:
    assert copied_run(pb.VideoStream(frame_count=10), FrameRange(0, 10)) is None


def test_source_of_one_group_is_copied_as_a_whole_or_not_at_all() -> None:
    video = pb.VideoStream(frame_count=1000, keyframes=[0])
    assert copied_run(video, FrameRange(0, 1000)) == FrameRange(0, 1000)
    assert copied_run(video, FrameRange(0, 999)) is None
    assert copied_run(video, FrameRange(1, 1000)) is None


def test_plan_says_how_much_is_copied() -> None:
    plan, warnings = planned((30, 180), (60, 80), (200, 300))
    assert not warnings
    assert (plan.quality, plan.copied_frame_count, plan.frame_count) == (
        pb.QUALITY_SOURCE,
        200,
        270,
    )
    # At the source's own rate: 270 frames of 8 Mb/s.
    assert plan.estimated_size_bytes == 270 * 8_000_000 // 25 // 8


def test_size_and_rate_are_the_sources_unless_others_are_asked_for() -> None:
    plan, _ = planned((0, 1000))
    assert plan.resolution == pb.RESOLUTION_SOURCE
    assert (plan.width, plan.height) == (1920, 1080)
    fast = source()
    fast.video.frame_rate.numerator = 120
    assert planned(info=fast)[0].frame_rate.numerator == 120


def test_size_and_rate_that_are_asked_for_may_be_the_sources() -> None:
    rate = pb.Rational(numerator=25, denominator=1)
    plan, warnings = planned((0, 100), resolution=pb.RESOLUTION_1080P, frame_rate=rate)
    assert not warnings
    assert plan.copied_frame_count == 100


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (
            lambda: planned((0, 100), resolution=pb.RESOLUTION_720P),
            "they have 1920 × 1080 pixels, and 1280 × 720 are asked for",
        ),
        (
            lambda: planned((0, 100), frame_rate=pb.Rational(numerator=50, denominator=1)),
            "another frame rate than theirs is asked for",
        ),
        (lambda: planned((60, 80), (110, 140)), "no segment holds a whole group of them"),
        (
            lambda: planned(
                (0, 100), info=source(avc_configuration=b"", copy_obstacle="they are interlaced")
            ),
            "they are interlaced",
        ),
        (
            lambda: planned((0, 100), info=source(avc_configuration=b"")),
            "an older version has examined the source",
        ),
    ],
)
def test_what_cannot_be_copied_is_encoded_and_says_why(
    make: Callable[[], tuple[pb.Plan, list[str]]], why: str
) -> None:
    plan, warnings = make()
    assert warnings == [f"The source's pictures are encoded instead of copied: {why}."]
    assert (plan.quality, plan.copied_frame_count) == (pb.QUALITY_HIGH, 0)


def test_what_is_encoded_instead_has_the_sources_size() -> None:
    plan, _ = planned((60, 80))
    assert (plan.resolution, plan.width, plan.height) == (pb.RESOLUTION_SOURCE, 1920, 1080)


def test_what_could_not_be_copied_before_is_not_tried_again() -> None:
    plan, warnings = planned((0, 1000), not_copied="It was tried.")
    assert warnings == ["It was tried."]
    assert plan.quality == pb.QUALITY_HIGH


def test_other_qualities_have_no_warning() -> None:
    asked = pb.ExportSettings(quality=pb.QUALITY_LOW)
    plan, warnings = plan_with_copies(source(), [], asked, "It was tried.")
    assert (plan.quality, warnings, plan.copied_frame_count) == (pb.QUALITY_LOW, (), 0)


def test_misfits_are_refused_as_ever() -> None:
    with pytest.raises(DomainError) as refused:
        planned((0, 2000))
    assert refused.value.reason is Reason.INVALID_SEGMENTS


def test_gpu_cannot_be_asked_for_with_copies() -> None:
    asked = pb.ExportSettings(quality=pb.QUALITY_SOURCE, encoder=pb.ENCODER_PREFERENCE_GPU)
    [violation] = settings_violations(asked)
    assert violation.field == "settings.encoder"
    asked.encoder = pb.ENCODER_PREFERENCE_CPU
    assert not settings_violations(asked)


def test_source_is_examined_once_it_can_be_copied_or_not() -> None:
    assert is_examined(source())
    assert is_examined(source(avc_configuration=b"", copy_obstacle="they are interlaced"))
    assert not is_examined(source(avc_configuration=b""))


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=20),
    st.tuples(st.integers(0, 400), st.integers(1, 400)),
)
def test_runs_begin_and_end_with_groups_within_the_span(
    lengths: list[int], place: tuple[int, int]
) -> None:
    keyframes = [sum(lengths[:number]) for number in range(len(lengths))]
    end = sum(lengths)
    start = place[0] % end
    span = FrameRange(start, min(end, start + place[1]))
    run = copied_run(pb.VideoStream(frame_count=end, keyframes=keyframes), span)
    borders = {*keyframes, end}
    if run is None:
        assert len([each for each in sorted(borders) if span.start <= each <= span.end]) < 2
    else:
        assert span.start <= run.start < run.end <= span.end
        assert {run.start, run.end} <= borders
        # No whole group is left out.
        assert not [each for each in borders if span.start <= each < run.start]
        assert not [each for each in borders if run.end < each <= span.end]
