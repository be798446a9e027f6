"""A campaign: users at work, faults by a schedule, then the checks."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.report import say
from faults import report, soak
from faults.catalogue import chosen
from faults.checks import exports, leftovers, objects
from faults.checks.evidence import Evidence, Injected, Outcome
from faults.cluster import FaultCluster
from faults.fault import Fault
from faults.injector import Injector
from faults.journal import Journal, Violation
from faults.load import Load
from faults.report import Result
from faults.rows import Rows
from faults.scene import Scene
from faults.schedule import plan

Check = Callable[[Evidence], Awaitable[list[Violation]]]

# Of so many under way, some are examined, some stopped, some wait for their file to be looked
# at; the rest keeps three slots busy.
AT_ONCE = 10
# Between two faults: most are recovered from sooner.
EVERY_S = 8.0
WHOLE_AGAIN_S = 90.0
# What is on its way when the last export ends has arrived by then.
SETTLED_WITHIN_S = 45.0
POLL_S = 0.5

# What is so once everything has settled.
CHECKS: tuple[Check, ...] = (
    exports.accepted_exports_end,
    exports.exports_end_as_ordered,
    exports.outputs_are_as_planned,
    exports.progress_never_goes_back,
    objects.outputs_are_stored,
    objects.sources_are_stored,
    objects.no_previews,
    objects.unfinished_uploads_are_explained,
    leftovers.no_rows,
    leftovers.no_messages,
    leftovers.no_scratch,
    leftovers.no_processes,
)


@dataclass(frozen=True)
class Orders:
    """What a campaign is to do.

    Attributes:
        exports: at least so many; more while there are faults to inject.
        faults: how many are injected.
        every: seconds between two of them.
        minutes: the load goes on for so long, without faults if there are none.
        only: names of faults, or how they begin; all by default.
    """

    seed: int
    exports: int = 0
    faults: int = 0
    every: float = EVERY_S
    minutes: float = 0.0
    only: Collection[str] = ()
    at_once: int = AT_ONCE


@dataclass
class Campaign:
    """One campaign on a running cluster.

    Attributes:
        folder: for the journal and the sources.
        tell: told what is going on.
        evidence: what the checks look at, also afterwards.
    """

    orders: Orders
    faulty: FaultCluster
    folder: Path
    tell: Callable[[str], None] = say
    result: Result = field(init=False)
    evidence: Evidence = field(init=False)

    def __post_init__(self) -> None:
        self.result = Result(self.orders.seed, interrupted=True)
        self._began = time.monotonic()

    async def run(self) -> Result:
        """Run it to its end and check; `result` holds what is known when it is cancelled."""
        async with self._opened() as evidence:
            journal = evidence.journal
            load = Load(
                self.faulty.cluster,
                journal,
                seed=self.orders.seed,
                clips=self.folder / "clips",
                at_once=self.orders.at_once,
            )
            try:
                await self._work(load, evidence)
            finally:
                self._note(load, evidence)
            self.tell("checking")
            await self.faulty.whole_again(WHOLE_AGAIN_S)
            await leftovers.delete_now(evidence)
            found = [*journal.violations, *_not_recovered(evidence.injected)]
            for check in CHECKS:
                found += await _settled(check, evidence)
            self.result.violations = found
            self.result.unfinished_uploads = len(await objects.unfinished_uploads(evidence))
            self.result.interrupted = False
        return self.result

    async def _work(self, load: Load, evidence: Evidence) -> None:
        """Let users work until there are enough exports and all faults have happened."""
        working = asyncio.create_task(load.run())
        memory = soak.Memory(self.faulty)
        watching = asyncio.create_task(memory.watch())
        injecting = asyncio.create_task(self._inject(load, evidence))
        try:
            end = self._began + self.orders.minutes * 60
            while (
                load.finished < self.orders.exports
                or time.monotonic() < end
                or not injecting.done()
            ):
                # Neither ends before it is told to, but by an error.
                done, _ = await asyncio.wait([working, injecting], timeout=POLL_S)
                for task in done:
                    await task
                if working.done():
                    break
            load.enough()
            await working
        finally:
            for task in (working, watching, injecting):
                task.cancel()
            await asyncio.gather(working, watching, injecting, return_exceptions=True)
            if not self.orders.faults:
                self.result.growth = memory.growth()

    async def _inject(self, load: Load, evidence: Evidence) -> None:
        orders = self.orders
        faults: dict[str, Fault] = {fault.name: fault for fault in chosen(orders.only)}
        kinds = [fault.kind for fault in faults.values()]
        schedule = plan(orders.seed, kinds, orders.faults, orders.every)

        def tell(done: Injected) -> None:
            self.tell(report.progress(done, time.monotonic() - self._began, load.finished))

        scene = Scene(self.faulty, evidence.rows, random.Random(f"scene {orders.seed}"))
        injector = Injector(scene, faults, tell)
        evidence.injected = injector.injected
        await injector.run(schedule)

    def _note(self, load: Load, evidence: Evidence) -> None:
        self.result.seconds = time.monotonic() - self._began
        accepted = {"accepted": len(evidence.journal.exports)}
        self.result.exports = {**accepted, **dict(sorted(load.ended.items()))}
        self.result.injected = evidence.injected

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Evidence]:
        rows = Rows(self.faulty.cluster.infrastructure.postgres.url)
        (self.folder / "clips").mkdir(parents=True, exist_ok=True)
        journal = Journal(self.folder / "accepted.jsonl")
        try:
            self.evidence = Evidence(self.faulty, rows, journal)
            yield self.evidence
        finally:
            await rows.close()
            journal.close()


async def _settled(check: Check, evidence: Evidence) -> list[Violation]:
    """Return what a check finds once that no longer changes for the better."""
    end = time.monotonic() + SETTLED_WITHIN_S
    while (found := await check(evidence)) and time.monotonic() < end:
        await asyncio.sleep(POLL_S)
    return found


def _not_recovered(injected: Sequence[Injected]) -> list[Violation]:
    return [
        Violation("every fault is recovered from", f"{each.fault.name} {each.target}", each.note)
        for each in injected
        if each.outcome is Outcome.LOST
    ]
