"""Injects what was planned, one fault after the other, and sees the cluster recover."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from faults.checks.evidence import Injected, Outcome
from faults.cluster import FaultCluster
from faults.fault import Fault, NotNow
from faults.journal import Journal
from faults.scene import Scene
from faults.schedule import Planned
from faults.times import now

# Between the end of one fault and the next: each finds the cluster at work.
LEAST_PAUSE_S = 1.0
WHOLE_AGAIN_S = 120.0


class Injector:
    """Goes through a schedule.

    Attributes:
        injected: what was done so far, oldest first.
        broken: whether the cluster could not be mended: nothing more is injected then.
    """

    def __init__(
        self,
        scene: Scene,
        faults: Mapping[str, Fault],
        journal: Journal,
        tell: Callable[[Injected], None],
    ) -> None:
        """Nothing is injected yet.

        Args:
            journal: for what must not be.
            tell: called after each fault.
        """
        self._scene = scene
        self._faults = faults
        self._journal = journal
        self._tell = tell
        self.injected: list[Injected] = []
        self.broken = False

    async def run(self, schedule: Iterable[Planned], count: int) -> None:
        """Go through a schedule until so many faults have hit something.

        What takes longer than planned puts off the rest.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        left = count
        for planned in schedule:
            if not left or self.broken:
                return
            await asyncio.sleep(max(LEAST_PAUSE_S, start + planned.at - loop.time()))
            done = await self.inject(self._faults[planned.fault], planned.target)
            self.injected.append(done)
            self._tell(done)
            left -= done.outcome is not Outcome.NOT_NOW
            if done.outcome is Outcome.LOST:
                await self._lost(done)
        if left:
            text = f"{count - left} of {count}; the others found nothing to hit"
            self._journal.violated("every fault that is asked for is injected", "schedule", text)

    async def inject(self, fault: Fault, target: str) -> Injected:
        """Inject one fault and wait until it is recovered from."""
        began = now()
        seconds, note = None, ""
        try:
            seconds = await fault.inject(self._scene, target)
            outcome = Outcome.SURVIVED
        except NotNow as reason:
            outcome, note = Outcome.NOT_NOW, str(reason)
        except TimeoutError as error:
            outcome, note = Outcome.LOST, str(error) or "work did not go on"
        except Exception as error:
            # A part did not come up, or what nobody has thought of: neither is a recovery.
            outcome, note = Outcome.LOST, f"{type(error).__name__}: {error}"
        return Injected(fault, target, began, now(), outcome, seconds, note)

    async def _lost(self, done: Injected) -> None:
        """Write down a fault that was not recovered from; the next is to find all mended."""
        what = f"{done.fault.name} {done.target}".strip()
        self._journal.violated("every fault is recovered from", what, done.note)
        self.broken = not await mended(self._scene.faulty, self._journal, WHOLE_AGAIN_S)


async def mended(faulty: FaultCluster, journal: Journal, within: float) -> bool:
    """Mend everything; return whether all parts serve after so many seconds, or write it down."""
    try:
        await faulty.whole_again(within)
    except Exception as error:
        text = f"not after {within:g} s: {type(error).__name__}: {error}"
        journal.violated("the cluster can be mended", "cluster", text)
        return False
    return True
