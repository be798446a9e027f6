"""Which fault hits what, and when: drawn from a seed. Pure."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.local.supervisor import RESTART_WINDOW_S

# A part that dies more often in the window waits longer than its second for its restart, so
# that what is measured would be the supervisor. One less than its limit: a fault that takes
# long to recover from moves those after it together.
MOST_DEATHS = 3


@dataclass(frozen=True, slots=True)
class Kind:
    """What the schedule has to know of a fault.

    Attributes:
        targets: what it may hit.
        ends: the parts whose processes end by it, for each target.
    """

    name: str
    targets: Sequence[str]
    ends: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault that is to happen.

    Attributes:
        at: seconds from the start; later where the fault before it takes longer.
    """

    at: float
    fault: str
    target: str


def plan(seed: int, kinds: Iterable[Kind], count: int, every: float) -> list[Planned]:
    """Return `count` faults, about one every `every` seconds; the same for the same seed.

    Each kind comes as often as every other, give or take one, and the same holds for the
    targets of a kind. None of it depends on how the campaign goes.
    """
    kinds = sorted(kinds, key=lambda kind: kind.name)
    dice = random.Random(f"schedule {seed}")
    targets = {kind.name: _Rounds(kind.targets, dice) for kind in kinds}
    deaths: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MOST_DEATHS))
    planned: list[Planned] = []
    waiting: list[tuple[Kind, str]] = []
    at = 0.0
    while len(planned) < count:
        if not waiting:
            waiting = [(kind, targets[kind.name].next()) for kind in kinds]
            dice.shuffle(waiting)
        at += every * dice.uniform(0.75, 1.25)
        # The first that may happen now; where none may, the first one waits.
        index = next((number for number, each in enumerate(waiting) if _due(each, deaths) <= at), 0)
        kind, target = waiting.pop(index)
        at = max(at, _due((kind, target), deaths))
        for part in kind.ends.get(target, ()):
            deaths[part].append(at)
        planned.append(Planned(round(at, 2), kind.name, target))
    return planned


def _due(what: tuple[Kind, str], deaths: Mapping[str, deque[float]]) -> float:
    """Return from when on no part would die more often than it may."""
    kind, target = what
    full = (deaths[part] for part in kind.ends.get(target, ()))
    return max((each[0] + RESTART_WINDOW_S for each in full if len(each) == MOST_DEATHS), default=0)


class _Rounds:
    """Draws each of several things once before any comes again."""

    def __init__(self, things: Sequence[str], dice: random.Random) -> None:
        self._things = list(things)
        self._dice = dice
        self._left: list[str] = []

    def next(self) -> str:
        if not self._left:
            self._left = self._dice.sample(self._things, len(self._things))
        return self._left.pop()
