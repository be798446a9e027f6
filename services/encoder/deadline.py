"""The time that a task has, shared by everything that is run for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

from google.protobuf.duration_pb2 import Duration

from services.encoder.errors import TimeLimitExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """When work must be done: that of a task, or a part of it.

    Attributes:
        seconds: that it has altogether.
        ends: when they are over, on the monotonic clock.
        work: what has to be done by then, for people.
    """

    seconds: float
    ends: float
    work: str = "encoding"

    @classmethod
    def after(cls, limit: Duration) -> Self:
        """Return the deadline of a task that begins now."""
        return cls.within(limit.ToTimedelta().total_seconds(), "encoding")

    @classmethod
    def within(cls, seconds: float, work: str) -> Self:
        """Return the deadline of some work that begins now."""
        return cls(seconds, time.monotonic() + seconds, work)

    def of_part(self, seconds: float, work: str) -> Deadline:
        """Return the deadline of a part that begins now: its own where it is earlier than this."""
        own = Deadline.within(seconds, work)
        return own if own.ends < self.ends else self

    @property
    def left(self) -> float:
        """Seconds that are left, 0 when none are."""
        return max(0.0, self.ends - time.monotonic())

    def exceeded(self) -> TimeLimitExceeded:
        """Return the error, which names what the task had, not what its last run was left."""
        return TimeLimitExceeded(f"{self.work} was not done after {self.seconds:g} s")
