"""How callers name users, sources, segments and times, and the messages these become.

Times are exact: text and decimals never pass through binary floating point.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration

from videoexport.v1 import export_pb2

Time: TypeAlias = Duration | timedelta | Decimal | int | float | str
SegmentLike: TypeAlias = export_pb2.Segment | tuple[Time, Time]
SourceLike: TypeAlias = export_pb2.Source | str

# `12.5`, `MM:SS.mmm` or `HH:MM:SS.mmm`; only the leading part may exceed 59.
_TIME = re.compile(r"(?:(?:([0-9]{1,9}):)?([0-9]{1,9}):)?([0-9]+(?:\.[0-9]+)?)")
_NANOS = 1_000_000_000
# The range of google.protobuf.Duration, about 10,000 years.
_MAX_SECONDS = 315_576_000_000
# 12 digits of seconds and 9 of nanoseconds; whatever does not fit is an error, not rounded.
_EXACT = Context(prec=21, traps=[Inexact])

# The services' own rule; what gRPC cannot send as metadata would fail inside of it.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}")

_VIDEO_PREFIX = "vid_"
_S3_PREFIX = "s3://"


def user_name(name: str) -> str:
    """Return the name of a user, as it is.

    Raises:
        ValueError: the services would not take it.
    """
    if not _USER.fullmatch(name) or ".." in name:
        raise ValueError(
            f"{name!r} is not a user name: 1 to 128 letters a-z, digits or ._@+- characters, "
            "the first a letter, a digit or _, and no two dots in a row"
        )
    return name


def duration(time: Time) -> Duration:
    """Return `time` as a Duration, exactly.

    Args:
        time: seconds as a number or text (`12.5`), `MM:SS.mmm`, `HH:MM:SS.mmm`, a
            timedelta or a Duration. A float is rounded to the nanosecond.

    Raises:
        ValueError: not a time, not finite, finer than a nanosecond, or out of range.

    >>> duration("00:01:02.5").ToJsonString()
    '62.500s'
    """
    if isinstance(time, Duration):
        return time
    if isinstance(time, timedelta):
        exact = Duration()
        exact.FromTimedelta(time)
        return exact
    if isinstance(time, float) and math.isfinite(time):
        time = round(time, 9)  # frame times such as 100 / 29.97 have no end
    try:
        seconds = _clock(time) if isinstance(time, str) else _decimal(time)
        if not seconds.is_finite() or seconds.copy_abs() > _MAX_SECONDS:
            raise ValueError(f"{time} is out of range")
        nanos = int(_EXACT.to_integral_exact(_EXACT.multiply(seconds, _NANOS)))
    except Inexact:
        raise ValueError(f"{time} has more digits than seconds and nanoseconds") from None
    # Seconds and nanos of a Duration carry the same sign.
    whole, rest = divmod(abs(nanos), _NANOS)
    sign = -1 if nanos < 0 else 1
    return Duration(seconds=sign * whole, nanos=sign * rest)


def segment(start: Time, end: Time) -> export_pb2.Segment:
    """Return the half-open range from `start` to `end`; the service judges whether it fits.

    Raises:
        ValueError: either is not a time, see `duration`.
    """
    return export_pb2.Segment(start_time=duration(start), end_time=duration(end))


def parse_segment(text: str) -> export_pb2.Segment:
    """Return the segment that `START-END` names, such as `12.5-20` or `00:01:00-00:01:30.25`.

    Raises:
        ValueError: not of that form.
    """
    start, dash, end = text.partition("-")
    if not dash:
        raise ValueError(f"{text!r} is not START-END")
    return segment(start.strip(), end.strip())


def segment_message(value: SegmentLike) -> export_pb2.Segment:
    """Return a segment given as a message or as a pair of times.

    Raises:
        ValueError: a time of the pair is not one.
    """
    return value if isinstance(value, export_pb2.Segment) else segment(*value)


def source_message(value: SourceLike) -> export_pb2.Source:
    """Return a source given as a message, a video id or `s3://bucket/key`.

    Raises:
        ValueError: text that is neither. Whether a video id exists is for the service to say.
    """
    if isinstance(value, export_pb2.Source):
        return value
    if value.startswith(_S3_PREFIX):
        bucket, _, key = value.removeprefix(_S3_PREFIX).partition("/")
        if not bucket or not key:
            raise ValueError(f"{value!r} is not s3://bucket/key")
        return export_pb2.Source(s3_object=export_pb2.S3Object(bucket=bucket, key=key))
    if value.startswith(_VIDEO_PREFIX):
        return export_pb2.Source(video_id=value)
    raise ValueError(f"{value!r} is neither a video id nor s3://bucket/key")


def _clock(text: str) -> Decimal:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not seconds, MM:SS or HH:MM:SS.mmm")
    hours, minutes, seconds = (Decimal(part or 0) for part in match.groups())
    if (match[1] and minutes > 59) or (match[2] and seconds >= 60):
        raise ValueError(f"{text!r} has more than 59 minutes or seconds after a colon")
    return _EXACT.add(hours * 3600 + minutes * 60, seconds)


def _decimal(number: Decimal | float) -> Decimal:
    if isinstance(number, Decimal):
        return number
    try:
        # str() of a float is the shortest decimal that reads back as the same float.
        return Decimal(str(number))
    except InvalidOperation:  # None, for example, where nobody checks types
        raise ValueError(f"{number!r} is not a time") from None
