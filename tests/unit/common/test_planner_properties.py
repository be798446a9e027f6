"""The plan of an export, by property."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import DomainError
from services.common.planner import NANOS, ROUNDING, duration_of, fraction_of, plan_export
from videoexport.v1 import export_pb2 as pb

RATES = st.sampled_from(
    [Fraction(n, d) for n, d in [(24000, 1001), (24, 1), (25, 1), (30000, 1001), (50, 1), (12, 1)]]
    # What the average of a varying rate looks like.
    + [Fraction(1_234_567, 52_083), Fraction(2997, 100)]
)


@st.composite
def sources(draw: st.DrawFn) -> pb.SourceInfo:
    rate = draw(RATES)
    return pb.SourceInfo(
        video=pb.VideoStream(
            frame_rate=pb.Rational(numerator=rate.numerator, denominator=rate.denominator),
            frame_count=draw(st.integers(2, 200_000)),
            width=1280,
            height=720,
        )
    )


def rate_of(info: pb.SourceInfo) -> Fraction:
    return Fraction(info.video.frame_rate.numerator, info.video.frame_rate.denominator)


def segment(start: Fraction, end: Fraction) -> pb.Segment:
    return pb.Segment(start_time=duration_of(start), end_time=duration_of(end))


def plan_of(info: pb.SourceInfo, segments: list[pb.Segment]) -> list[tuple[int, int]]:
    plan = plan_export(info, segments, pb.ExportSettings())
    return [(item.start_frame, item.end_frame) for item in plan.segments]


def outcome_of(info: pb.SourceInfo, wanted: pb.Segment) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the fields that are refused, or the planned range."""
    try:
        return [], plan_of(info, [wanted])
    except DomainError as error:
        return [item.field for item in error.violations], []


@given(info=sources(), data=st.data())
def test_each_end_is_snapped_to_the_nearest_frame(info: pb.SourceInfo, data: st.DataObject) -> None:
    rate = rate_of(info)
    length = info.video.frame_count / rate
    shortest = math.ceil(NANOS / rate)
    start = data.draw(st.integers(0, math.floor(length * NANOS) - shortest))
    end = data.draw(st.integers(start + shortest, math.floor(length * NANOS)))
    wanted = segment(Fraction(start, NANOS), Fraction(end, NANOS))
    fields, planned = outcome_of(info, wanted)
    if fields:  # both ends are nearest to the same frame, or to the end
        assert fields == ["segments[0].end_time"]
        assert fraction_of(wanted.end_time) - fraction_of(wanted.start_time) < 2 / rate
        return
    [(first, last)] = planned
    half = Fraction(1, 2) / rate
    assert -half < first / rate - fraction_of(wanted.start_time) <= half
    assert -half < last / rate - fraction_of(wanted.end_time) <= half
    assert 0 <= first < last <= info.video.frame_count


@given(info=sources(), data=st.data())
def test_contiguous_segments_join_without_gap_and_without_a_frame_twice(
    info: pb.SourceInfo, data: st.DataObject
) -> None:
    rate = rate_of(info)
    frames = info.video.frame_count
    cuts = sorted(
        data.draw(
            st.sets(
                st.integers(0, (frames - 1) // 2).map(lambda step: step * 2),
                min_size=1,
                max_size=20,
            )
        )
    )
    # Anywhere within their frame, as callers' times are.
    shifts = data.draw(st.lists(st.integers(0, 900), min_size=len(cuts), max_size=len(cuts)))
    times = [(cut + Fraction(n, 1000)) / rate for cut, n in zip(cuts, shifts, strict=True)]
    times[0] = Fraction(0)
    times.append(frames / rate)
    segments = [segment(a, b) for a, b in pairwise(times)]
    try:
        planned = plan_of(info, segments)
    except DomainError:
        # What is left at the end may be under a frame.
        assert times[-1] - times[-2] < 2 / rate
        return
    assert planned[0][0] == 0
    assert planned[-1][1] == frames
    assert all(a[1] == b[0] for a, b in pairwise(planned))
    assert sum(end - start for start, end in planned) == frames


@given(info=sources(), data=st.data())
def test_ranges_of_a_plan_give_the_same_plan_again(
    info: pb.SourceInfo, data: st.DataObject
) -> None:
    frames = info.video.frame_count
    start = data.draw(st.integers(0, frames - 1))
    end = data.draw(st.integers(start + 1, frames))
    plan = plan_export(
        info, [segment(start / rate_of(info), end / rate_of(info))], pb.ExportSettings()
    )
    [item] = plan.segments
    assert (item.start_frame, item.end_frame) == (start, end)
    again = pb.Segment(start_time=item.start_time, end_time=item.end_time)
    assert plan_of(info, [again]) == [(start, end)]


@given(info=sources(), data=st.data())
def test_plan_counts_what_its_segments_hold(info: pb.SourceInfo, data: st.DataObject) -> None:
    frames = info.video.frame_count
    rate = rate_of(info)
    bounds = data.draw(
        st.lists(
            st.integers(0, frames - 1).flatmap(
                lambda start: st.tuples(st.just(start), st.integers(start + 1, frames))
            ),
            min_size=1,
            max_size=30,
        )
    )
    plan = plan_export(info, [segment(a / rate, b / rate) for a, b in bounds], pb.ExportSettings())
    assert plan.frame_count == sum(end - start for start, end in bounds)
    assert plan.duration == duration_of(plan.frame_count / rate)


@given(info=sources(), nanos=st.integers(0, 4 * NANOS))
def test_grace_at_the_end_is_one_frame_and_no_more(info: pb.SourceInfo, nanos: int) -> None:
    rate = rate_of(info)
    frames = info.video.frame_count
    end = duration_of((frames + Fraction(nanos, NANOS)) / rate)
    fields, planned = outcome_of(info, pb.Segment(end_time=end))
    if fraction_of(end) > (frames + 1) / rate + Fraction(1, NANOS):
        assert fields == ["segments[0].end_time"]
    else:
        assert planned == [(0, frames)]


@given(info=sources(), percent=st.integers(0, 99), data=st.data())
def test_what_is_under_a_frame_is_refused(
    info: pb.SourceInfo, percent: int, data: st.DataObject
) -> None:
    frame = 1 / rate_of(info)
    start = data.draw(st.integers(0, info.video.frame_count - 1)) * frame
    wanted = segment(start, start + Fraction(percent, 100) * (frame - ROUNDING))
    with pytest.raises(DomainError) as raised:
        plan_of(info, [wanted])
    assert [item.field for item in raised.value.violations] == ["segments[0].end_time"]


@given(st.lists(st.sampled_from(["fine", "reversed", "negative", "beyond", "tiny"]), max_size=50))
def test_every_faulty_segment_is_listed_and_no_other(faults: list[str]) -> None:
    info = pb.SourceInfo(
        video=pb.VideoStream(frame_rate=pb.Rational(numerator=25, denominator=1), frame_count=250)
    )
    times: dict[str, tuple[int, int | Fraction]] = {
        "fine": (1, 2),
        "reversed": (2, 1),
        "negative": (-1, 2),
        "beyond": (1, 12),
        "tiny": (1, Fraction(1001, 1000)),
    }
    segments = [segment(Fraction(times[fault][0]), Fraction(times[fault][1])) for fault in faults]
    wrong = {f"segments[{index}]" for index, fault in enumerate(faults) if fault != "fine"}
    if not wrong:
        plan_of(info, segments)
        return
    with pytest.raises(DomainError) as raised:
        plan_of(info, segments)
    assert {item.field.partition(".")[0] for item in raised.value.violations} == wrong


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_duration_of_is_exact_to_half_a_nanosecond(numerator: int, denominator: int) -> None:
    time = Fraction(numerator, denominator)
    duration = duration_of(time)
    assert 0 <= duration.nanos < NANOS
    assert abs(fraction_of(duration) - time) <= Fraction(1, 2 * NANOS)
