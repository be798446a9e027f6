"""What the checks look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from faults.cluster import FaultCluster
from faults.fault import ENCODERS, Fault
from faults.journal import Journal
from faults.rows import Rows
from faults.times import now
from services.common.errors import Reason

# How long after its end a fault still explains what begins then: connections that it broke are
# given up, and opened again.
GRACE = timedelta(seconds=10)


class Outcome(Enum):
    """How the cluster took a fault."""

    SURVIVED = "survived"
    NOT_NOW = "not injected"  # there was nothing that it could hit
    LOST = "not recovered from"


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that was injected.

    Attributes:
        seconds: of its recovery; None where nothing had to recover.
        note: why not, or what went wrong.
    """

    fault: Fault
    target: str
    began: datetime
    ended: datetime
    outcome: Outcome
    seconds: float | None = None
    note: str = ""

    @property
    def is_real(self) -> bool:
        """Whether it hit anything."""
        return self.outcome is not Outcome.NOT_NOW

    def overlaps(self, began: datetime, ended: datetime) -> bool:
        """Whether a time lies within that of the fault and of what comes of it."""
        return self.is_real and self.began <= ended and began <= self.ended + GRACE

    def hits(self, encoder: str) -> bool:
        """Whether an encoder suffers by it: one that is aimed at another leaves it alone."""
        aimed_at = [word for word in self.target.split() if word in ENCODERS]
        return not aimed_at or not encoder or encoder in aimed_at


@dataclass(frozen=True, slots=True)
class Failure:
    """What the history says of a run that failed.

    Attributes:
        encoder: who ran it; empty where several did, or nobody.
        began, ended: of the run, or of all runs of its task.
    """

    reason: Reason
    detail: str
    task: str
    encoder: str
    began: datetime
    ended: datetime

    def __str__(self) -> str:
        where = self.encoder or "no encoder alone"
        return f"{self.reason} at {where} from {self.began} to {self.ended}: {self.detail}"


@dataclass
class Evidence:
    """A campaign as far as it is known from outside.

    Attributes:
        began, ended: of the users' work.
    """

    faulty: FaultCluster
    rows: Rows
    journal: Journal
    injected: Sequence[Injected] = field(default_factory=list)
    began: datetime = field(default_factory=now)
    ended: datetime = field(default_factory=now)

    def explains(self, failure: Failure) -> bool:
        """Whether a fault that the encoder suffered from meanwhile leads to such a failure."""
        return any(
            each.overlaps(failure.began, failure.ended) and each.hits(failure.encoder)
            for each in self.injected
            if failure.reason in each.fault.excuses
        )

    def struck(self, began: datetime, ended: datetime) -> bool:
        """Whether there was any fault at a time."""
        return any(each.overlaps(began, ended) for each in self.injected)
