"""What to expect of unfinished exports: from the backlog, the live slots and measured speeds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from services.api.dispatcher import window_of
from services.api.encoders import LiveEncoders
from services.api.eta import LaneSlots, forecast
from services.api.progress import LiveProgress
from services.api.remaining import backlog_of
from services.api.store import BacklogStore
from services.common.errors import DomainError
from services.common.subjects import Lane

log = structlog.get_logger()

# How long a forecast stands, and how long one that does not know the time of an export, which
# has just come or was just planned: at least so many seconds, and so many times what it cost,
# to bound its share of the CPU.
STANDS_SECONDS, STANDS_COSTS = 2.0, 40
UNKNOWN_SECONDS, UNKNOWN_COSTS = 0.2, 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an owner is told of an unfinished export.

    Attributes:
        seconds: until it is finished; None while its plan or slots for it are missing.
        position: exports that are ahead of it in the queue.
    """

    seconds: float | None
    position: int


class Forecast:
    """What to expect of every unfinished export.

    Made when somebody asks and the last one is old, so it costs nothing while nobody does.
    """

    def __init__(
        self,
        backlog: BacklogStore,
        encoders: LiveEncoders,
        progress: LiveProgress,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backlog = backlog
        self._encoders = encoders
        self._progress = progress
        self._clock = clock
        self._estimates: dict[str, Estimate] = {}
        self._made_at = float("-inf")
        self._cost = 0.0
        self._making = asyncio.Lock()

    async def of(self, export_id: str) -> Estimate | None:
        """Return what to expect of an unfinished export; None where that is not known."""
        if self._is_old(export_id):
            async with self._making:
                # Of those who waited, the first has made it.
                if self._is_old(export_id):
                    await self._make()
        known = self._estimates.get(export_id)
        if known is None or known.seconds is None:
            return known
        passed = self._clock() - self._made_at
        return Estimate(max(0.0, known.seconds - passed), known.position)

    def _is_old(self, export_id: str) -> bool:
        age = self._clock() - self._made_at
        known = self._estimates.get(export_id)
        if known is not None and known.seconds is not None:
            return age >= max(STANDS_SECONDS, STANDS_COSTS * self._cost)
        return age >= max(UNKNOWN_SECONDS, UNKNOWN_COSTS * self._cost)

    async def _make(self) -> None:
        began_at = self._clock()
        try:
            left = await self._backlog.read()
        except DomainError as error:
            # The last one stands meanwhile: exports can be told without it.
            log.warning("no forecast", reason=error.reason)
            return
        read_at = self._clock()
        backlogs = [
            backlog_of(export, left.speeds, partial(self._progress.pace, export.id))
            for export in left.exports
        ]
        slots = {lane: self._encoders.slots(lane) for lane in Lane}
        # In a thread, so that nobody waits for a thousand exports.
        outlooks = await asyncio.to_thread(
            forecast,
            [backlog for backlog in backlogs if backlog is not None],
            {lane: LaneSlots(count, window_of(count)) for lane, count in slots.items()},
            left.served,
        )
        planned = {export.id for export in left.exports if export.plan is not None}
        self._estimates = {
            export_id: Estimate(outlook.seconds if export_id in planned else None, outlook.position)
            for export_id, outlook in outlooks.items()
        }
        self._made_at = read_at
        self._cost = self._clock() - began_at
