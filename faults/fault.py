"""What a fault of the catalogue is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from faults.schedule import Kind
from services.common.errors import Reason

if TYPE_CHECKING:
    from faults.scene import Scene

ENCODERS = ("encoder-1", "encoder-2", "encoder-3")
APIS = ("api", "api-2")

# Does something to the cluster, mends it, and waits until work goes on. Returns the seconds
# that this took; None where nothing had to recover, as the task ended just before.
Inject = Callable[["Scene", str], Awaitable[float | None]]

# Reasons that an export may truly fail with while the way to its bytes is disturbed.
BYTES_AWAY = frozenset(
    {
        Reason.SOURCE_UNAVAILABLE,
        Reason.STORAGE_UNAVAILABLE,
        Reason.ENCODE_STALLED,
        Reason.ENCODER_FAILED,
        Reason.TIME_LIMIT,
    }
)
# And while encoders vanish, or seem to.
WORKERS_AWAY = frozenset({Reason.WORKER_LOST})


class NotNow(Exception):
    """The fault could not be injected: there was nothing that it could hit. Not a failure."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How long recovery may take.

    Attributes:
        seconds: at most.
        median: whether that is asked of the median, not of the longest.
    """

    seconds: float
    median: bool = False

    def __str__(self) -> str:
        return f"{'p50' if self.median else 'max'} ≤ {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong in real clusters.

    Attributes:
        does: what is done, and where it really comes from.
        recovery: from when to when the seconds of its recovery run.
        targets: what it may hit; one is drawn each time.
        ends: parts whose process ends by it, for each target.
        excuses: reasons that exports may fail with meanwhile.
    """

    name: str
    does: str
    recovery: str
    inject: Inject
    targets: Sequence[str] = ("",)
    ends: Mapping[str, Sequence[str]] = field(default_factory=dict)
    excuses: frozenset[Reason] = frozenset()
    limit: Limit | None = None

    @property
    def kind(self) -> Kind:
        """What the schedule has to know of it."""
        return Kind(self.name, self.targets, self.ends)
