"""Times as the contract has them, and as people say them."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp_of(time: datetime) -> Timestamp:
    """Return an aware time as a Timestamp."""
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def in_words(duration: timedelta) -> str:
    """Return a duration as people say it, in its largest fitting unit: `36 hours`, `1 minute`."""
    seconds = duration.total_seconds()
    length, unit = next(
        (item for item in ((3600, "hour"), (60, "minute")) if seconds >= item[0]), (1, "second")
    )
    count = f"{round(seconds / length, 1):g}"
    return f"{count} {unit}" if count == "1" else f"{count} {unit}s"
