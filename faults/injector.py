"""Injects what was planned, one fault after the other, and sees the cluster recover."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from faults.checks.evidence import Injected, Outcome
from faults.fault import Fault, NotNow
from faults.scene import Scene, now
from faults.schedule import Planned

# Between the end of one fault and the next: each finds the cluster at work.
LEAST_PAUSE_S = 1.0
MENDED_WITHIN_S = 120.0


class Injector:
    """Goes through a schedule.

    Attributes:
        injected: what was done so far, oldest first.
    """

    def __init__(
        self, scene: Scene, faults: Mapping[str, Fault], tell: Callable[[Injected], None]
    ) -> None:
        """Nothing is injected yet.

        Args:
            tell: called after each fault.
        """
        self._scene = scene
        self._faults = faults
        self._tell = tell
        self.injected: list[Injected] = []

    async def run(self, schedule: Sequence[Planned]) -> None:
        """Inject all that is planned; what takes longer than planned puts off the rest."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        for planned in schedule:
            await asyncio.sleep(max(LEAST_PAUSE_S, start + planned.at - loop.time()))
            done = await self.inject(self._faults[planned.fault], planned.target)
            self.injected.append(done)
            self._tell(done)

    async def inject(self, fault: Fault, target: str) -> Injected:
        """Inject one fault and wait until it is recovered from."""
        began = now()
        seconds, note = None, ""
        try:
            seconds = await fault.inject(self._scene, target)
            outcome = Outcome.SURVIVED
        except NotNow as reason:
            outcome, note = Outcome.NOT_NOW, str(reason)
        except TimeoutError:
            outcome, note = Outcome.LOST, "work did not go on"
            # The next fault is to be met by a cluster with nothing wrong.
            await self._scene.faulty.whole_again(MENDED_WITHIN_S)
        return Injected(fault, target, began, now(), outcome, seconds, note)
