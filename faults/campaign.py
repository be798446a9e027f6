"""A campaign: users at work, faults by a schedule, then the checks."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.report import say
from faults import report, soak, verdict
from faults.catalogue import FAULTS, chosen
from faults.checks import encoders, history, objects
from faults.checks.evidence import Evidence, Injected
from faults.cluster import FaultCluster
from faults.fault import ENCODERS
from faults.injector import Injector, mended
from faults.journal import Journal
from faults.load import Load
from faults.report import Result
from faults.rows import Rows
from faults.scene import Scene
from faults.schedule import plan
from faults.times import now

# Of so many under way, some are examined, some stopped, some wait for their file to be looked
# at; the rest keeps three slots busy.
AT_ONCE = 10
# Between two faults: most are recovered from sooner.
EVERY_S = 8.0
WHOLE_AGAIN_S = 90.0
POLL_S = 0.5
# So many faults more are planned, for those that find nothing to hit.
SPARE = 20


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
            self.result.violations = journal.violations
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
                evidence.ended = now()
                self._note(load, evidence)
            self.tell("checking")
            is_whole = await mended(self.faulty, journal, WHOLE_AGAIN_S)
            # What is away by now does not come back.
            within = verdict.SETTLED_WITHIN_S if is_whole else 0.0
            journal.violations += await verdict.violations(evidence, within=within)
            if is_whole:
                await self._count(evidence)
            self.result.interrupted = False
        return self.result

    async def _work(self, load: Load, evidence: Evidence) -> None:
        """Let users work until there are enough exports and all faults have happened."""
        scene = Scene(self.faulty, evidence.rows, random.Random(f"scene {self.orders.seed}"))
        injector = self._injector(scene, load, evidence)
        memory = soak.Memory(self.faulty)
        working = asyncio.create_task(load.run())
        watching = asyncio.create_task(memory.watch())
        injecting = asyncio.create_task(self._inject(injector))
        try:
            end = self._began + self.orders.minutes * 60
            while not injector.broken and not working.done():
                enough = load.finished >= self.orders.exports and time.monotonic() >= end
                if injecting.done() and enough:
                    break
                await asyncio.sleep(POLL_S)
            if working.done():
                # Not told to, so by an error.
                await working
            if not injector.broken:
                await injecting
                await self._all_encoders_work(scene, evidence)
                load.enough()
                await working
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            evidence.journal.violated("the campaign goes on to its end", "campaign", text)
        finally:
            for task in (working, watching, injecting):
                task.cancel()
            await asyncio.gather(working, watching, injecting, return_exceptions=True)
            if not self.orders.faults:
                self.result.growth = memory.growth()

    def _injector(self, scene: Scene, load: Load, evidence: Evidence) -> Injector:
        def tell(done: Injected) -> None:
            self.tell(report.progress(done, time.monotonic() - self._began, load.finished))

        injector = Injector(scene, FAULTS, evidence.journal, tell)
        evidence.injected = injector.injected
        return injector

    async def _inject(self, injector: Injector) -> None:
        orders = self.orders
        kinds = [fault.kind for fault in chosen(orders.only)]
        schedule = plan(orders.seed, kinds, orders.faults + SPARE, orders.every)
        await injector.run(schedule, orders.faults)

    async def _all_encoders_work(self, scene: Scene, evidence: Evidence) -> None:
        """See each encoder at work once more: the last fault has not put it out for good."""
        since = now()

        async def see(encoder: str) -> None:
            try:
                await scene.worked(encoder, since)
            except TimeoutError:
                text = f"nothing since {since}, with users at work"
                evidence.journal.violated(encoders.RULE, encoder, text)

        await asyncio.gather(*map(see, ENCODERS))

    def _note(self, load: Load, evidence: Evidence) -> None:
        self.result.seconds = time.monotonic() - self._began
        accepted = {"accepted": len(evidence.journal.exports)}
        self.result.exports = {**accepted, **dict(sorted(load.ended.items()))}
        self.result.injected = evidence.injected

    async def _count(self, evidence: Evidence) -> None:
        """Count what is no violation, and to be known."""
        self.result.unfinished_uploads = len(await objects.unfinished_uploads(evidence))
        histories = await history.read(evidence)
        failed = (each.reason for one in histories.values() for each in history.failures(one))
        self.result.failed_runs = dict(sorted(Counter(map(str, failed)).items()))
        self.result.retried = history.count_retries(histories)

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
