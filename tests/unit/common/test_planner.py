"""The plan of an export, by example."""

from __future__ import annotations

from fractions import Fraction

import pytest
from google.protobuf.duration_pb2 import Duration

from services.common.errors import DomainError, Reason
from services.common.planner import (
    FRAMES_PER_SOUND,
    MAX_SEGMENTS,
    duration_of,
    fraction_of,
    frames_to_make,
    grid_of,
    misfits,
    plan_export,
    processing_time,
    segment_violations,
)
from videoexport.v1 import export_pb2 as pb

NTSC = Fraction(30000, 1001)


def source(
    rate: Fraction = Fraction(25),
    frames: int = 250,
    *,
    width: int = 1280,
    height: int = 720,
    rotation: int = 0,
    audio: bool = True,
) -> pb.SourceInfo:
    info = pb.SourceInfo(
        video=pb.VideoStream(
            frame_rate=pb.Rational(numerator=rate.numerator, denominator=rate.denominator),
            frame_count=frames,
            width=width,
            height=height,
            rotation=rotation,
        )
    )
    if audio:
        info.audio.SetInParent()
    return info


def seconds(value: float | Fraction | str) -> Duration:
    return duration_of(Fraction(value).limit_denominator(10**9))


def segment(start: float | Fraction | str, end: float | Fraction | str) -> pb.Segment:
    return pb.Segment(start_time=seconds(start), end_time=seconds(end))


def ranges(plan: pb.Plan) -> list[tuple[int, int]]:
    return [(item.start_frame, item.end_frame) for item in plan.segments]


def plan_of(info: pb.SourceInfo, *segments: pb.Segment, **settings: object) -> pb.Plan:
    return plan_export(info, segments, pb.ExportSettings(**settings))  # type: ignore[arg-type]


def violations_of(info: pb.SourceInfo, *segments: pb.Segment) -> dict[str, str]:
    with pytest.raises(DomainError) as raised:
        plan_of(info, *segments)
    assert raised.value.reason is Reason.INVALID_SEGMENTS
    found = {item.field: item.description for item in raised.value.violations}
    assert len(found) == len(raised.value.violations)
    return found


def test_plan_without_segments_is_the_whole_source() -> None:
    plan = plan_of(source(frames=250))
    assert ranges(plan) == [(0, 250)]
    assert plan.frame_count == 250
    assert plan.duration == Duration(seconds=10)


def test_source_that_is_incomplete_is_exported_by_its_segments_alone() -> None:
    info = source()
    info.missing_bytes = 4000
    assert plan_of(info, segment(0, 1)).frame_count > 0
    with pytest.raises(DomainError, match="its last 4,000 bytes are missing") as refused:
        plan_of(info)
    assert refused.value.reason is Reason.INVALID_SOURCE


def test_plan_of_three_segments_counts_their_frames() -> None:
    plan = plan_of(source(), segment(1, 3), segment(5, "5.5"), segment(9, 10))
    assert ranges(plan) == [(25, 75), (125, 138), (225, 250)]
    assert plan.frame_count == 50 + 13 + 25
    assert fraction_of(plan.duration) == Fraction(88, 25)
    assert (plan.frame_rate.numerator, plan.frame_rate.denominator) == (25, 1)


def test_plan_keeps_the_order_of_repeated_and_overlapping_segments() -> None:
    plan = plan_of(source(), segment(5, 6), segment(1, 3), segment(2, 4), segment(5, 6))
    assert ranges(plan) == [(125, 150), (25, 75), (50, 100), (125, 150)]


def test_plan_gives_each_segment_its_snapped_times() -> None:
    [item] = plan_of(source(NTSC, 300), segment("1.01", "2.02")).segments
    assert (item.start_frame, item.end_frame) == (30, 61)
    assert item.start_time == duration_of(30 / NTSC)
    assert item.end_time == duration_of(61 / NTSC)


@pytest.mark.parametrize(
    ("time", "frame"),
    [("0.0599", 1), ("0.06", 2), ("0.0601", 2), ("0.08", 2), ("0.0999", 2), ("0.1", 3)],
)
def test_plan_snaps_to_the_nearest_frame_and_halves_up(time: str, frame: int) -> None:
    # A frame is 40 ms: halves are at 60 ms and 100 ms.
    [item] = plan_of(source(), segment(time, 5)).segments
    assert item.start_frame == frame


def test_plan_of_an_odd_rate_does_not_drift_over_an_hour() -> None:
    # 3600 s × 30000/1001 = 107892.1
    plan = plan_of(source(NTSC, 108_000), segment(0, 3600))
    assert plan.frame_count == 107_892
    assert fraction_of(plan.duration) == pytest.approx(Fraction(107_892) / NTSC)


@pytest.mark.parametrize(
    ("start", "end", "field", "part"),
    [
        (2, 2, "segments[0].end_time", "after start_time"),
        (3, 2, "segments[0].end_time", "after start_time"),
        (-1, 2, "segments[0].start_time", "negative"),
        ("-0.000000001", 2, "segments[0].start_time", "negative"),
        (1, -2, "segments[0].end_time", "negative"),
        ("1.01", "1.02", "segments[0].end_time", "shorter than a frame"),
        ("1.02", "1.04", "segments[0].end_time", "shorter than a frame"),  # half, yet snaps to one
        ("1.02", "1.0595", "segments[0].end_time", "shorter than a frame"),  # nearest to the same
        (10, 11, "segments[0].start_time", "ends at 10.000 s"),
        (1, "10.041", "segments[0].end_time", "ends at 10.000 s"),
        ("9.99", "10.02", "segments[0].end_time", "shorter than a frame"),  # what is left of it
    ],
)
def test_segment_that_does_not_fit_is_refused(
    start: float, end: float, field: str, part: str
) -> None:
    found = violations_of(source(), segment(start, end))
    assert part in found[field]


def test_segment_beyond_both_ends_has_two_violations() -> None:
    assert set(violations_of(source(), segment(11, 12))) == {
        "segments[0].start_time",
        "segments[0].end_time",
    }


def test_segment_is_allowed_one_frame_beyond_the_end_and_is_cut_there() -> None:
    assert ranges(plan_of(source(), segment(9, "10.04"))) == [(225, 250)]
    # Nanoseconds cannot say 301 × 1001 / 30000 s; the nearest one is allowed too.
    last = duration_of(301 / NTSC)
    assert fraction_of(last) > 301 / NTSC
    plan = plan_of(source(NTSC, 300), pb.Segment(start_time=seconds(9), end_time=last))
    assert ranges(plan) == [(270, 300)]


def test_segment_of_one_frame_may_be_given_in_milliseconds() -> None:
    # A frame is 33.367 ms.
    assert ranges(plan_of(source(NTSC, 300), segment("1.001", "1.034"))) == [(30, 31)]


def test_every_violation_is_listed_with_its_path() -> None:
    found = violations_of(
        source(),
        segment(1, 2),
        segment(3, 3),
        segment(-1, 2),
        segment(1, 11),
        segment(2, 3),
        segment("1", "1.001"),
        pb.Segment(start_time=Duration(nanos=2_000_000_000), end_time=seconds(3)),
    )
    assert set(found) == {
        "segments[1].end_time",
        "segments[2].start_time",
        "segments[3].end_time",
        "segments[5].end_time",
        "segments[6].start_time",
    }


def test_message_names_the_first_violation_and_counts_the_rest() -> None:
    with pytest.raises(DomainError) as raised:
        plan_of(source(), segment(3, 3), segment(2, 1), segment(4, 4))
    assert raised.value.message == "segments[0].end_time: must be after start_time (and 2 more)"
    assert not raised.value.retryable


@pytest.mark.parametrize(
    "time",
    [
        Duration(seconds=315_576_000_001),
        Duration(seconds=-315_576_000_001),
        Duration(nanos=1_000_000_000),
        Duration(nanos=-1_000_000_000),
    ],
)
def test_duration_outside_its_range_is_refused(time: Duration) -> None:
    # NaN and infinity cannot be said in a Duration; these are what comes closest.
    [violation] = segment_violations([pb.Segment(start_time=time, end_time=seconds(3))])
    assert violation.field == "segments[0].start_time"
    assert violation.description == "is not a valid duration"


def test_a_thousand_segments_are_allowed_and_one_more_is_not() -> None:
    segments = [segment(1, 2)] * MAX_SEGMENTS
    assert MAX_SEGMENTS == 1000
    assert plan_of(source(), *segments).frame_count == 25_000
    found = violations_of(source(), *segments, segment(1, 2))
    assert found == {"segments": "there are 1001; at most 1000 are allowed"}


def test_a_thousand_violations_are_all_listed() -> None:
    assert len(violations_of(source(), *[segment(5, 5)] * MAX_SEGMENTS)) == 1000


@pytest.mark.parametrize(
    ("own", "grid"),
    [
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (Fraction(60), Fraction(60)),
        (Fraction(120), Fraction(60)),
        (Fraction(90), Fraction(45)),
        (Fraction(240000, 1001), Fraction(60000, 1001)),
        (Fraction(15), Fraction(15)),
    ],
)
def test_grid_is_the_sources_own_up_to_sixty_frames(own: Fraction, grid: Fraction) -> None:
    assert grid_of(source(own, 1200), pb.ExportSettings()).rate == grid


def test_grid_of_a_halved_rate_has_half_the_frames() -> None:
    assert grid_of(source(Fraction(120), 1200), pb.ExportSettings()).frame_count == 600


@pytest.mark.parametrize(
    ("rate", "frames"),
    [(Fraction(50), 20), (Fraction(30), 12), (NTSC, 11), (Fraction(1), 1), (Fraction(25), 10)],
)
def test_requested_frame_rate_makes_the_grid(rate: Fraction, frames: int) -> None:
    # Ten frames at 25/s: 0.4 s.
    asked = pb.Rational(numerator=rate.numerator, denominator=rate.denominator)
    plan = plan_of(source(frames=10), frame_rate=asked)
    assert plan.frame_count == frames
    assert Fraction(plan.frame_rate.numerator, plan.frame_rate.denominator) == rate


def test_requested_frame_rate_is_reduced() -> None:
    plan = plan_of(source(), frame_rate=pb.Rational(numerator=100, denominator=4))
    assert plan.frame_rate == pb.Rational(numerator=25, denominator=1)
    assert plan.frame_count == 250


@pytest.mark.parametrize(
    ("width", "height", "rotation", "resolution"),
    [
        (1280, 720, 0, pb.RESOLUTION_720P),
        (640, 360, 0, pb.RESOLUTION_720P),
        (1280, 721, 0, pb.RESOLUTION_1080P),
        (1920, 1080, 0, pb.RESOLUTION_1080P),
        (3840, 2160, 0, pb.RESOLUTION_1080P),
        (720, 1280, 0, pb.RESOLUTION_1080P),  # portrait as coded
        (1280, 720, 90, pb.RESOLUTION_1080P),  # portrait as shown
        (1280, 720, 270, pb.RESOLUTION_1080P),
        (1280, 720, 180, pb.RESOLUTION_720P),
        (480, 640, 90, pb.RESOLUTION_720P),
    ],
)
def test_resolution_default_follows_the_lines_as_shown(
    width: int, height: int, rotation: int, resolution: pb.Resolution.ValueType
) -> None:
    plan = plan_of(source(width=width, height=height, rotation=rotation))
    assert plan.resolution == resolution
    size = (1280, 720) if resolution == pb.RESOLUTION_720P else (1920, 1080)
    assert (plan.width, plan.height) == size


def test_requested_resolution_and_quality_are_taken() -> None:
    plan = plan_of(source(), resolution=pb.RESOLUTION_1080P, quality=pb.QUALITY_LOW)
    assert (plan.width, plan.height) == (1920, 1080)
    assert plan.quality == pb.QUALITY_LOW
    assert plan_of(source()).quality == pb.QUALITY_MEDIUM


def test_has_audio_follows_the_source() -> None:
    assert plan_of(source(audio=True)).has_audio
    assert not plan_of(source(audio=False)).has_audio


def test_estimated_size_grows_with_quality_and_sound() -> None:
    sizes = [
        plan_of(source(), quality=quality).estimated_size_bytes
        for quality in (pb.QUALITY_LOW, pb.QUALITY_MEDIUM, pb.QUALITY_HIGH)
    ]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    silent = plan_of(source(audio=False)).estimated_size_bytes
    assert sizes[1] - silent == 10 * 192_000 // 8


def test_estimated_time_follows_the_speed() -> None:
    assert processing_time(500, 100) == Duration(seconds=6)  # 5 s and what is fixed
    # 70 million pixels a second, until the cluster has measured its own speed.
    assert plan_of(source(frames=500)).estimated_processing_time == processing_time(
        500, 70e6 / (1280 * 720)
    )


def test_plan_is_a_pure_function() -> None:
    segments = (segment(1, 2), segment("3.3", "4.4"))
    assert plan_of(source(), *segments) == plan_of(source(), *segments)


# Codecs and formats


def test_plan_says_codec_range_and_format() -> None:
    usual = plan_of(source())
    assert (usual.video_codec, usual.format) == (pb.VIDEO_CODEC_H264, pb.FORMAT_MP4)
    assert usual.dynamic_range == pb.DYNAMIC_RANGE_SDR
    webm = plan_of(source(), format=pb.FORMAT_WEBM, dynamic_range=pb.DYNAMIC_RANGE_KEEP)
    assert (webm.video_codec, webm.format) == (pb.VIDEO_CODEC_VP9, pb.FORMAT_WEBM)
    assert webm.dynamic_range == pb.DYNAMIC_RANGE_KEEP


def test_dearer_codec_takes_longer_and_makes_less() -> None:
    usual = plan_of(source(frames=25_000))
    for codec in (pb.VIDEO_CODEC_HEVC, pb.VIDEO_CODEC_AV1):
        other = plan_of(source(frames=25_000), video_codec=codec)
        assert fraction_of(other.estimated_processing_time) > fraction_of(
            usual.estimated_processing_time
        )
        assert other.estimated_size_bytes < usual.estimated_size_bytes


def test_sound_alone_is_cut_on_the_grid_and_has_no_pictures() -> None:
    plan = plan_of(source(frames=25_000), segment(0, 100), segment(3, 4), format=pb.FORMAT_M4A)
    assert ranges(plan) == [(0, 2500), (75, 100)]
    assert (plan.frame_count, fraction_of(plan.duration)) == (2525, 101)
    for name in ("width", "height", "resolution", "quality", "fit", "video_codec", "dynamic_range"):
        assert not getattr(plan, name), name
    assert plan.has_audio
    assert plan.estimated_size_bytes == 101 * 192_000 // 8
    assert 0 < fraction_of(plan.estimated_processing_time) < 10
    assert frames_to_make(plan) == 2525 // FRAMES_PER_SOUND
    assert frames_to_make(plan_of(source(frames=100))) == 100


def test_sound_alone_of_a_silent_source_is_refused() -> None:
    with pytest.raises(DomainError) as raised:
        plan_of(source(audio=False), format=pb.FORMAT_M4A)
    assert raised.value.reason is Reason.INVALID_REQUEST
    assert [item.field for item in raised.value.violations] == ["settings.format"]
    found = misfits(source(audio=False), [], pb.ExportSettings(format=pb.FORMAT_M4A))
    assert [item.field for item in found] == ["settings.format"]
