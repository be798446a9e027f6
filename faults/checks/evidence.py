"""What the checks look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from faults.cluster import FaultCluster
from faults.fault import Fault
from faults.journal import Journal
from faults.rows import Rows

# How long after its end a fault still explains what comes of it: the attempts of a task, with
# their pauses, and what was silent for the longest of our limits meanwhile.
GRACE = timedelta(seconds=30)


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

    def overlaps(self, began: datetime, ended: datetime) -> bool:
        """Whether a time lies within that of the fault and of what comes of it."""
        is_real = self.outcome is not Outcome.NOT_NOW
        return is_real and self.began <= ended and began <= self.ended + GRACE


@dataclass
class Evidence:
    """A campaign as far as it is known from outside."""

    faulty: FaultCluster
    rows: Rows
    journal: Journal
    injected: Sequence[Injected] = field(default_factory=list)

    def explains(self, reason: str, began: datetime, ended: datetime) -> bool:
        """Whether a fault was there that something may fail with this reason from."""
        return any(
            each.overlaps(began, ended) for each in self.injected if reason in each.fault.excuses
        )

    def disturbed(self, began: datetime, ended: datetime) -> bool:
        """Whether there was any fault at a time."""
        return any(each.overlaps(began, ended) for each in self.injected)


def names(found: Iterable[object]) -> str:
    """Return some of many things, as text."""
    texts = sorted(map(str, found))
    more = f" and {len(texts) - 5} more" if len(texts) > 5 else ""
    return ", ".join(texts[:5]) + more
