"""The time that a task has, shared by everything that is run for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

from google.protobuf.duration_pb2 import Duration

from services.encoder.errors import TimeLimitExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the work of a task must be done.

    Attributes:
        seconds: that it has altogether.
        ends: when they are over, on the monotonic clock.
    """

    seconds: float
    ends: float

    @classmethod
    def after(cls, limit: Duration) -> Self:
        """Return the deadline of a task that begins now."""
        seconds = limit.ToTimedelta().total_seconds()
        return cls(seconds, time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds that are left, 0 when none are."""
        return max(0.0, self.ends - time.monotonic())

    def exceeded(self) -> TimeLimitExceeded:
        """Return the error, which names what the task had, not what its last run was left."""
        return TimeLimitExceeded(f"encoding was not done after {self.seconds:g} s")
