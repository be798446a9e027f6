"""Times as the contract has them."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp_of(time: datetime) -> Timestamp:
    """Return an aware time as a Timestamp."""
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
