"""The injector: as many faults as asked for hit, and what is lost is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults import injector as module
from faults.checks.evidence import Outcome
from faults.fault import Fault, NotNow
from faults.injector import Injector
from faults.journal import Journal
from faults.scene import Scene
from faults.schedule import Planned
from services.local.process import PartFailed


class Faulty:
    """A cluster that can be mended, or cannot."""

    def __init__(self, problem: BaseException | None = None) -> None:
        self.problem = problem

    async def whole_again(self, within: float) -> None:
        if self.problem is not None:
            raise self.problem


class Stage:
    """All that the injector looks at."""

    def __init__(self, faulty: Faulty) -> None:
        self.faulty = faulty


async def survived(_: Scene, __: str) -> float:
    return 1.0


async def nothing(_: Scene, __: str) -> float:
    raise NotNow("nothing to hit")


async def lost(_: Scene, __: str) -> float:
    raise TimeoutError


async def failed(_: Scene, __: str) -> float:
    raise ExceptionGroup("starting", [PartFailed("s3 was not ready")])


FAULTS = {
    act.__name__: Fault(act.__name__, "does", "from", act)
    for act in (survived, nothing, lost, failed)
}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal")
    yield opened
    opened.close()


@pytest.fixture
def inject(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Injector]:
    monkeypatch.setattr(module, "LEAST_PAUSE_S", 0.0)

    def make(problem: BaseException | None = None) -> Injector:
        scene = Stage(Faulty(problem))
        return Injector(scene, FAULTS, journal, lambda _: None)  # type: ignore[arg-type]

    return make


def schedule(*names: str) -> list[Planned]:
    return [Planned(0.0, name, "x") for name in names]


async def test_what_finds_nothing_to_hit_does_not_count(
    inject: Callable[..., Injector], journal: Journal
) -> None:
    injector = inject()
    await injector.run(schedule("survived", "nothing", "nothing", "survived", "survived"), 2)
    outcomes = [each.outcome for each in injector.injected]
    assert outcomes == [Outcome.SURVIVED, Outcome.NOT_NOW, Outcome.NOT_NOW, Outcome.SURVIVED]
    assert journal.violations == []


async def test_too_few_that_hit_are_a_violation(
    inject: Callable[..., Injector], journal: Journal
) -> None:
    await inject().run(schedule("survived", "nothing"), 2)
    [found] = journal.violations
    assert "1 of 2" in found.evidence


async def test_lost_fault_is_a_violation_at_once_and_others_follow(
    inject: Callable[..., Injector], journal: Journal
) -> None:
    injector = inject()
    await injector.run(schedule("lost", "failed", "survived"), 3)
    first, second = journal.violations
    assert (first.subject, first.evidence) == ("lost x", "work did not go on")
    assert "s3 was not ready" not in first.evidence
    assert "ExceptionGroup" in second.evidence
    assert len(injector.injected) == 3


async def test_cluster_that_cannot_be_mended_ends_the_faults(
    inject: Callable[..., Injector], journal: Journal
) -> None:
    injector = inject(TimeoutError())
    await injector.run(schedule("lost", "survived"), 2)
    assert injector.broken
    assert [each.outcome for each in injector.injected] == [Outcome.LOST]
    assert [each.rule for each in journal.violations][1] == "the cluster can be mended"
