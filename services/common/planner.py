"""From a source and a request to an exact plan. Pure: no I/O, no clock.

Everything is counted on the output's frame grid: frame `k` of the grid is the
source at `k / R` seconds after its first frame, where `R` is the output's
frame rate. Segments are half-open, so contiguous ones join without a gap and
without a frame twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from google.protobuf.duration_pb2 import Duration

from services.common.codecs import SIZE, codec_of, has_pictures, picture_work
from services.common.combinations import sound_violations
from services.common.errors import DomainError, Reason, Violation, invalid_request
from services.common.geometry import frame_of
from services.common.metadata import output_metadata
from services.common.sound import chosen_stream, stream_violations
from services.common.stills import planned_poster, planned_sprites, still_violations
from services.common.subtitles import planned_subtitles, subtitle_violations
from services.common.watermark import planned_watermark
from videoexport.v1 import export_pb2 as pb

MAX_SEGMENTS = 1000
MAX_DEFAULT_RATE = Fraction(60)
MAX_RATE = Fraction(120)
# A day: segments may repeat, and a thousand of them make months of a short source.
MAX_OUTPUT_SECONDS = 24 * 3600
NANOS = 1_000_000_000
# Durations of sources are often rounded up, and so are segments that reach to the end.
END_GRACE_FRAMES = 1
# A frame's length is rarely a whole number of milliseconds, but callers' times often are.
ROUNDING = Fraction(1, 1000)

# Bits per pixel that H.264 needs at each quality, from our own trials with
# camera material; good to a factor of two, which is what an estimate is for.
BITS_PER_PIXEL = {pb.QUALITY_HIGH: 0.12, pb.QUALITY_MEDIUM: 0.065, pb.QUALITY_LOW: 0.035}
# Of what is copied, the source's own are known better: services/common/smart_copy.py.
BITS_PER_PIXEL[pb.QUALITY_SOURCE] = BITS_PER_PIXEL[pb.QUALITY_HIGH]
AUDIO_BITS_PER_SECOND = 192_000
# What the sound costs, in frames of pictures of 720p at 25 a second; good enough to weigh them
# against each other.
FRAMES_PER_SOUND = 20

# Pixels a second of libx264 `medium` on two cores; used until the cluster
# has measured its own speed.
DEFAULT_PIXELS_PER_SECOND = 70e6
# Dispatch, verification and upload, beside the encode itself.
FIXED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Grid:
    """The frame grid of a source at an output rate.

    Attributes:
        rate: frames per second.
        frame_count: frames that the source fills.
    """

    rate: Fraction
    frame_count: int

    def nearest(self, time: Fraction) -> int:
        """Return the frame that begins nearest to `time`; halves round up."""
        # In whole numbers: fractions take nine times as long, and a thousand segments add up.
        doubled = 2 * time.numerator * self.rate.numerator
        whole = time.denominator * self.rate.denominator
        return (doubled + whole) // (2 * whole)

    def time(self, frame: int) -> Fraction:
        """Return when a frame begins."""
        return frame / self.rate


def fraction_of(duration: Duration) -> Fraction:
    """Return a duration in seconds, exactly."""
    return Fraction(duration.seconds * NANOS + duration.nanos, NANOS)


def duration_of(seconds: Fraction) -> Duration:
    """Return seconds as a duration, rounded to the nanosecond."""
    nanos = round(seconds * NANOS)
    return Duration(seconds=nanos // NANOS, nanos=nanos % NANOS)


def duration_problem(duration: Duration) -> str | None:
    """Return why a duration of a caller cannot be used, or None."""
    # The range of google.protobuf.Duration, 10,000 years.
    if abs(duration.seconds) > 315_576_000_000 or abs(duration.nanos) >= NANOS:
        return "is not a valid duration"
    if duration.seconds < 0 or duration.nanos < 0:
        return "must not be negative"
    return None


def plan_export(
    info: pb.SourceInfo,
    segments: Sequence[pb.Segment],
    settings: pb.ExportSettings,
) -> pb.Plan:
    """Return the plan of an export; its time is an estimate without any measured speed.

    Args:
        info: what the source is.
        segments: as requested; none means the whole source.
        settings: as requested.

    Raises:
        DomainError: INVALID_SEGMENTS with every violation; INVALID_REQUEST where settings do not
            go with the source, with these and those of the segments; INVALID_SOURCE where all of
            one is wanted that is incomplete.
    """
    grid = grid_of(info, settings)
    if info.missing_bytes and not segments:
        raise DomainError(
            Reason.INVALID_SOURCE,
            f"The video is incomplete: its last {info.missing_bytes:,} bytes are missing. What is "
            f"there lasts {float(grid.time(grid.frame_count)):.3f} s; name segments of that.",
        )
    ranges, violations = _snap(segments, grid)
    frame_count = sum(end - start for start, end in ranges)
    duration = grid.time(frame_count)
    if not violations and duration > MAX_OUTPUT_SECONDS:
        hours, limit = float(duration) / 3600, MAX_OUTPUT_SECONDS // 3600
        problem = f"the output would last {hours:.1f} h; at most {limit} h are made"
        violations.append(Violation("segments", problem))
    unfit = _unfit(info, settings)
    if not violations:
        unfit += still_violations(settings, grid.rate, frame_count)
    if unfit:
        raise invalid_request([*violations, *unfit])
    if violations:
        raise _invalid(violations)
    levelled = info.HasField("audio") and settings.HasField("loudness_lufs")
    plan = pb.Plan(
        segments=[
            pb.PlannedSegment(
                start_frame=start,
                end_frame=end,
                start_time=duration_of(grid.time(start)),
                end_time=duration_of(grid.time(end)),
            )
            for start, end in ranges
        ],
        frame_rate=pb.Rational(numerator=grid.rate.numerator, denominator=grid.rate.denominator),
        frame_count=frame_count,
        duration=duration_of(duration),
        format=settings.format or pb.FORMAT_MP4,
        has_audio=info.HasField("audio"),
        metadata=_metadata(info, settings, ranges, grid),
        subtitles=planned_subtitles(info, settings),
        watermark=planned_watermark(settings),
        audio_stream=chosen_stream(info, settings),
        loudness_lufs=settings.loudness_lufs if levelled else None,
    )
    if has_pictures(plan.format):
        _plan_pictures(plan, info.video, settings, grid.rate)
    plan.estimated_size_bytes = _estimate_bytes(plan)
    speed = DEFAULT_PIXELS_PER_SECOND / picture_work(plan.width, plan.height, plan.video_codec)
    plan.estimated_processing_time.CopyFrom(processing_time(frames_to_make(plan), speed))
    return plan


def _plan_pictures(
    plan: pb.Plan, video: pb.VideoStream, settings: pb.ExportSettings, rate: Fraction
) -> None:
    frame = frame_of(video, settings)
    plan.width, plan.height = frame.width, frame.height
    plan.resolution, plan.fit = frame.resolution, frame.fit
    plan.quality = settings.quality or pb.QUALITY_MEDIUM
    plan.video_codec = codec_of(settings)
    plan.dynamic_range = settings.dynamic_range or pb.DYNAMIC_RANGE_SDR
    plan.rotation = video.rotation
    plan.measure_quality = settings.measure_quality
    if poster := planned_poster(settings, rate, frame.width, frame.height):
        plan.poster.CopyFrom(poster)
    if sprites := planned_sprites(settings, rate, plan.frame_count, frame.width, frame.height):
        plan.sprites.CopyFrom(sprites)


def frames_to_make(plan: pb.Plan) -> int:
    """Return the work of making an output in one piece, in frames of pictures."""
    if has_pictures(plan.format):
        return plan.frame_count
    return max(1, plan.frame_count // FRAMES_PER_SOUND)


def _metadata(
    info: pb.SourceInfo,
    settings: pb.ExportSettings,
    ranges: Sequence[tuple[int, int]],
    grid: Grid,
) -> pb.OutputMetadata:
    spans = [
        (grid.nearest(fraction_of(chapter.start_time)), grid.nearest(fraction_of(chapter.end_time)))
        for chapter in info.chapters
    ]
    metadata = output_metadata(info, settings, spans, ranges)
    for chapter in metadata.chapters:
        chapter.start_time.CopyFrom(duration_of(grid.time(chapter.start_frame)))
        chapter.end_time.CopyFrom(duration_of(grid.time(chapter.end_frame)))
    return metadata


def processing_time(frame_count: int, frames_per_second: float) -> Duration:
    """Return how long an export takes, encoded at this speed."""
    seconds = Fraction(frame_count / frames_per_second + FIXED_SECONDS).limit_denominator(1000)
    return duration_of(seconds)


def grid_of(info: pb.SourceInfo, settings: pb.ExportSettings) -> Grid:
    """Return the frame grid: the requested rate, or the source's own.

    Unless its pictures are copied, that is up to 60.
    """
    own = Fraction(info.video.frame_rate.numerator, info.video.frame_rate.denominator)
    if settings.HasField("frame_rate"):
        rate = Fraction(settings.frame_rate.numerator, settings.frame_rate.denominator)
    else:
        rate = own
        most = MAX_RATE if settings.quality == pb.QUALITY_SOURCE else MAX_DEFAULT_RATE
        # Halving keeps every frame of the output a frame of the source.
        while rate > most:
            rate /= 2
    if rate == own:
        return Grid(rate, info.video.frame_count)
    frames = Fraction(info.video.frame_count)
    if info.video.variable_frame_rate:
        # Counted at an average rate, it is right to half a frame of that: at a
        # higher rate, that may be many frames that the source does not have.
        frames -= Fraction(1, 2)
    return Grid(rate, max(1, int(frames * rate / own)))


def misfits(
    info: pb.SourceInfo, segments: Sequence[pb.Segment], settings: pb.ExportSettings
) -> list[Violation]:
    """Return everything that does not go with a known source."""
    return [*_violations(segments, grid_of(info, settings)), *_unfit(info, settings)]


def _unfit(info: pb.SourceInfo, settings: pb.ExportSettings) -> list[Violation]:
    """Return which settings do not go with a known source."""
    return [
        *stream_violations(info, settings),
        *sound_violations(info, settings),
        *subtitle_violations(info, settings),
    ]


def segment_violations(segments: Sequence[pb.Segment]) -> list[Violation]:
    """Return what is wrong with segments whatever the source is."""
    if len(segments) > MAX_SEGMENTS:
        return [
            Violation("segments", f"there are {len(segments)}; at most {MAX_SEGMENTS} are allowed")
        ]
    return [
        violation
        for index, segment in enumerate(segments)
        for violation in _segment_violations(f"segments[{index}]", segment)
    ]


def _segment_violations(path: str, segment: pb.Segment) -> list[Violation]:
    violations = []
    for name in ("start_time", "end_time"):
        problem = duration_problem(getattr(segment, name))
        if problem is not None:
            violations.append(Violation(f"{path}.{name}", problem))
    if not violations and fraction_of(segment.end_time) <= fraction_of(segment.start_time):
        violations.append(Violation(f"{path}.end_time", "must be after start_time"))
    return violations


def _snap(
    segments: Sequence[pb.Segment], grid: Grid
) -> tuple[list[tuple[int, int]], list[Violation]]:
    if not segments:
        return [(0, grid.frame_count)], []
    violations = _violations(segments, grid)
    if violations:
        return [], violations
    return [_snap_one(segment, grid) for segment in segments], []


def _violations(segments: Sequence[pb.Segment], grid: Grid) -> list[Violation]:
    """Return what is wrong with segments by themselves and for the source, in their order."""
    if len(segments) > MAX_SEGMENTS:
        return segment_violations(segments)
    end = grid.time(grid.frame_count)
    # A time that a client made from a frame is rounded to the nanosecond.
    latest = grid.time(grid.frame_count + END_GRACE_FRAMES) + Fraction(1, NANOS)
    violations = []
    for index, segment in enumerate(segments):
        path = f"segments[{index}]"
        violations += _segment_violations(path, segment) or _misfits(
            path, segment, grid, end, latest
        )
    return violations


def _snap_one(segment: pb.Segment, grid: Grid) -> tuple[int, int]:
    start, end = fraction_of(segment.start_time), fraction_of(segment.end_time)
    return grid.nearest(start), min(grid.nearest(end), grid.frame_count)


def _misfits(
    path: str, segment: pb.Segment, grid: Grid, end: Fraction, latest: Fraction
) -> list[Violation]:
    """Return where a segment does not fit the source.

    Args:
        end: where the source ends.
        latest: the last end of a segment that is taken for it.
    """
    start_time, end_time = fraction_of(segment.start_time), fraction_of(segment.end_time)
    violations = [
        Violation(f"{path}.{name}", f"is beyond the end; the source ends at {float(end):.3f} s")
        for name, beyond in (("start_time", start_time >= end), ("end_time", end_time > latest))
        if beyond
    ]
    first_frame, end_frame = _snap_one(segment, grid)
    too_short = end_time - start_time + ROUNDING < grid.time(1) or end_frame <= first_frame
    if not violations and too_short:
        violations.append(Violation(f"{path}.end_time", "the segment is shorter than a frame"))
    return violations


def _invalid(violations: list[Violation]) -> DomainError:
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    first = violations[0]
    return DomainError(
        Reason.INVALID_SEGMENTS, f"{first.field}: {first.description}{more}", violations=violations
    )


def _estimate_bytes(plan: pb.Plan) -> int:
    bits = float(fraction_of(plan.duration)) * AUDIO_BITS_PER_SECOND if plan.has_audio else 0.0
    if has_pictures(plan.format):
        share = SIZE[plan.video_codec]
        pixels = plan.width * plan.height * plan.frame_count
        bits += pixels * BITS_PER_PIXEL[plan.quality] * share
    return int(bits / 8)
