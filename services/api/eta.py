"""When exports of a lane will be finished: the dispatcher's rule, played forward. Pure.

A slot takes the task that was sent first. The dispatcher keeps a window of tasks sent:
the next is of the user with fewest of them, among such users of the one who has waited
longest, since the export came or a task of the user ended; of one user's exports the one
with the highest priority, then the oldest; of an export the longest task. Tasks run to
their end, so exports of few long tasks, where shares of slots would be far from the truth,
are told as exactly as those of many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush

# Tasks that are played one by one, over all exports: some 3 µs each. Beyond them an export's
# tasks are taken several at a time, the more the further back it waits, which errs in
# proportion to its time.
PLAYED_TASKS = 5000


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is left of one export; times are seconds of one slot.

    Attributes:
        order: when it came, in seconds of any clock.
        served: when a task of its user ended last, by the same clock, before now.
        begun: whether a slot has worked for it before.
        running: what each task that runs still needs.
        sent: what each task needs that was sent and does not run yet, with a number that
            rises from one sent to the next.
        waiting: tasks that could be sent now.
        work: what these need altogether, start and end of each included.
        longest: what the longest of them needs.
        tail: what the one task needs that begins when all others have ended; 0 for none.
    """

    export_id: str
    user_id: str
    order: float
    served: float = float("-inf")
    priority: int = 0
    begun: bool = False
    running: tuple[float, ...] = ()
    sent: tuple[tuple[float, float], ...] = ()
    waiting: int = 0
    work: float = 0.0
    longest: float = 0.0
    tail: float = 0.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be expected of an export.

    Attributes:
        seconds: until it is finished; None while the lane has no slot.
        position: exports that have not begun and will before this one; 0 once it has begun.
    """

    seconds: float | None
    position: int


def forecast(exports: Iterable[Backlog], *, slots: int, window: int) -> dict[str, Outlook]:
    """Return the outlook of every export of a lane.

    Args:
        slots: tasks that can run at the same time. Tasks that run beyond them, on encoders
            that take no more, are waited for.
        window: tasks that are sent or run at the same time, as the dispatcher keeps it.
    """
    # Without slots the order can be told all the same: it is that of one.
    lane = _Lane(_parts(exports), max(1, slots), max(window, slots, 1))
    lane.play()
    return {
        part.export.export_id: Outlook(part.ends if slots > 0 else None, part.position)
        for part in lane.parts
    }


@dataclass(slots=True)
class _User:
    """A user while the lane is played.

    Attributes:
        served: when a task ended last.
        in_flight: tasks that are sent or run.
        due: exports with tasks to send, as a heap, best first.
    """

    served: float
    in_flight: int = 0
    due: list[tuple[_Place, _Part]] = field(default_factory=list)

    def first(self) -> _Part | None:
        """Return the export whose task is sent next."""
        while self.due and not self.due[0][1].left:
            heappop(self.due)
        return self.due[0][1] if self.due else None


@dataclass(slots=True)
class _Part:
    """An export while the lane is played.

    Attributes:
        next: seconds of its next task.
        rest: seconds of every one after that.
        left: tasks that have not been sent.
        open: tasks that have not ended.
    """

    export: Backlog
    user: _User
    place: _Place
    next: float
    rest: float
    left: int
    open: int
    tail: float
    begun: bool
    position: int = 0
    ends: float = 0.0


# Among the exports of a user; all are different, so that nothing else is compared.
_Place = tuple[float, float, int]


def _parts(exports: Iterable[Backlog]) -> list[_Part]:
    """Return the exports in about the order in which they are served, tasks taken together."""
    users: dict[str, _User] = {}
    counts: dict[str, int] = {}
    turns: list[tuple[int, float, Backlog]] = []
    for export in sorted(exports, key=lambda item: (-item.priority, item.order)):
        turn = counts.get(export.user_id, 0)
        counts[export.user_id] = turn + 1
        turns.append((turn, export.order, export))
    turns.sort(key=lambda item: item[:2])
    harmonic = sum(1 / place for place in range(1, len(turns) + 1))
    return [
        _part(
            place,
            export,
            users.setdefault(export.user_id, _User(export.served)),
            most=max(1, int(PLAYED_TASKS / harmonic / place)),
        )
        for place, (_, _, export) in enumerate(turns, 1)
    ]


def _part(place: int, export: Backlog, user: _User, most: int) -> _Part:
    count = min(export.waiting, most)
    first = max(export.longest, export.work / count) if count else 0.0
    rest = (export.work - first) / (count - 1) if count > 1 else 0.0
    return _Part(
        export,
        user,
        (-export.priority, export.order, place),
        first,
        max(0.0, rest),
        count,
        count + len(export.running) + len(export.sent),
        export.tail,
        export.begun or bool(export.running),
    )


class _Lane:
    """The slots of a lane and what is in flight for them."""

    def __init__(self, parts: list[_Part], slots: int, window: int) -> None:
        self.parts = parts
        self._free = slots
        self._room = window
        # What ends from now on is later than all that did: times go on from there.
        stamps = [max(part.export.order, part.export.served) for part in parts]
        self._now = self._began = max(stamps, default=0.0)
        # By their end; the count keeps exports from being compared.
        self._running: list[tuple[float, int, _Part]] = []
        self._sent: deque[tuple[float, _Part]] = deque()
        # Users by their turn. An entry that is no longer true is passed over.
        self._turns: list[tuple[int, float, int, _User]] = []
        self._count = 0
        self._begun = 0

    def play(self) -> None:
        """Let everything end."""
        sent: list[tuple[float, float, _Part]] = []
        for part in self.parts:
            if part.left:
                heappush(part.user.due, (part.place, part))
            for seconds in part.export.running:
                self._take_place(part.user)
                self._run(seconds, part)
            for number, seconds in part.export.sent:
                self._take_place(part.user)
                sent.append((number, seconds, part))
        sent.sort(key=lambda item: item[0])
        self._sent.extend((seconds, part) for _, seconds, part in sent)
        for part in self.parts:
            self._begin_tail(part)
            self._queue(part.user)
        self._fill()
        while self._running:
            self._now, _, part = heappop(self._running)
            self._end(part)
            self._fill()

    def _fill(self) -> None:
        """Send what the window has room for, and start what the slots have."""
        while self._room > 0 and (part := self._next()) is not None:
            self._send(part)
            self._queue(part.user)
        while self._free > 0 and self._sent:
            seconds, part = self._sent.popleft()
            if not part.begun:
                part.begun = True
                part.position = self._begun
                self._begun += 1
            self._run(seconds, part)

    def _next(self) -> _Part | None:
        while self._turns:
            in_flight, since, _, user = heappop(self._turns)
            if in_flight != user.in_flight:
                continue
            part = user.first()
            if part is not None and since == max(part.export.order, user.served):
                return part
        return None

    def _queue(self, user: _User) -> None:
        part = user.first()
        if part is not None:
            self._count += 1
            since = max(part.export.order, user.served)
            heappush(self._turns, (user.in_flight, since, self._count, user))

    def _send(self, part: _Part) -> None:
        self._sent.append((part.next, part))
        part.next = part.rest
        part.left -= 1
        self._take_place(part.user)

    def _take_place(self, user: _User) -> None:
        self._room -= 1
        user.in_flight += 1

    def _run(self, seconds: float, part: _Part) -> None:
        self._free -= 1
        self._count += 1
        heappush(self._running, (self._now + seconds, self._count, part))

    def _end(self, part: _Part) -> None:
        self._free += 1
        self._room += 1
        part.user.in_flight -= 1
        part.user.served = self._now
        part.open -= 1
        part.ends = self._now - self._began
        self._begin_tail(part)
        self._queue(part.user)

    def _begin_tail(self, part: _Part) -> None:
        """Let the last task of an export be due when it is the only one left."""
        if not part.open and part.tail:
            part.next, part.tail = part.tail, 0.0
            part.left = part.open = 1
            heappush(part.user.due, (part.place, part))
