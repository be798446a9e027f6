"""What an owner is told of a damaged source: where it is, in one warning an export. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from google.protobuf.duration_pb2 import Duration

from services.common.errors import Reason
from videoexport.v1 import export_pb2 as pb

NANOS = 10**9
# Places nearer to each other than this, in nanoseconds, are told as one; those that are nearest
# to each other are where there are more than so many.
NEAR = NANOS // 2
MAX_TIME_RANGES = 50

Span = tuple[int, int]


def time_range(start: Fraction, end: Fraction) -> pb.TimeRange:
    """Return a range of source time, in seconds from the source's beginning."""
    return pb.TimeRange(start_time=_duration(start), end_time=_duration(end))


def damage_warning(ranges: Iterable[pb.TimeRange]) -> pb.ExportWarning:
    """Return the warning that a source is damaged in these places."""
    spans = _merged((_nanos(each.start_time), _nanos(each.end_time)) for each in ranges)
    seconds = sum(end - start for start, end in spans) / NANOS
    places = "one place" if len(spans) == 1 else f"{len(spans)} places"
    return pb.ExportWarning(
        code=Reason.SOURCE_DAMAGED,
        message=f"The source is damaged in {places}, {max(seconds, 0.1):.1f} s in all: pictures "
        "there may look damaged or repeat the one before, and sound may be missing.",
        time_ranges=[time_range(Fraction(a, NANOS), Fraction(b, NANOS)) for a, b in spans],
    )


def merged_warnings(*warnings: pb.ExportWarning) -> Sequence[pb.ExportWarning]:
    """Return one warning a code: the last, and of a damaged source one with all its places."""
    found = {warning.code: warning for warning in warnings}
    damaged = [warning for warning in warnings if warning.code == Reason.SOURCE_DAMAGED]
    ranges = [each for warning in damaged for each in warning.time_ranges]
    # Another version may tell of none.
    if len(damaged) > 1 and ranges:
        found[Reason.SOURCE_DAMAGED] = damage_warning(ranges)
    return list(found.values())


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Return spans in order, near ones as one, and no more than may be told."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start - found[-1][1] <= NEAR:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    while len(found) > MAX_TIME_RANGES:
        nearest = min(range(1, len(found)), key=lambda place: found[place][0] - found[place - 1][1])
        found[nearest - 1 : nearest + 1] = [(found[nearest - 1][0], found[nearest][1])]
    return found


def _nanos(duration: Duration) -> int:
    return duration.seconds * NANOS + duration.nanos


def _duration(seconds: Fraction) -> Duration:
    nanos = round(seconds * NANOS)
    return Duration(seconds=nanos // NANOS, nanos=nanos % NANOS)
