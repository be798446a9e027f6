"""When exports will be finished: the dispatcher's rule, played forward. Pure.

A slot takes the task that was sent first. In each lane the dispatcher keeps a window of
tasks sent: the next is of the user with fewest of them, among such users of the one who has
waited longest, since the export came or a task of the user ended; of one user's exports the
one with the highest priority, then the oldest; of an export the longest task. Tasks run to
their end, so exports of few long tasks, where shares of slots would be far from the truth,
are told as exactly as those of many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from services.common.subjects import Lane

# Tasks of a lane that are played one by one, over all exports: some 3 µs each. Beyond them an
# export's tasks are taken several at a time, the more the further back it waits, which errs in
# proportion to its time.
PLAYED_TASKS = 5000


@dataclass(frozen=True, slots=True)
class LaneSlots:
    """What runs the tasks of a lane.

    Attributes:
        count: tasks that can run at the same time. Tasks that run beyond them, on encoders
            that take no more, are waited for.
        window: tasks that are sent or run at the same time, as the dispatcher keeps it.
    """

    count: int
    window: int


@dataclass(frozen=True, slots=True)
class LaneWork:
    """What is left of an export in one lane; times are seconds of one slot.

    Attributes:
        running: what each task that runs still needs.
        sent: what each task needs that was sent and does not run yet, with a number that
            rises from one sent to the next.
        waiting: tasks that could be sent now.
        work: what these need altogether.
        longest: what the longest of them needs.
    """

    running: tuple[float, ...] = ()
    sent: tuple[tuple[float, float], ...] = ()
    waiting: int = 0
    work: float = 0.0
    longest: float = 0.0


@dataclass(frozen=True, slots=True)
class Tail:
    """A task that begins when all others have ended, such as the one that joins them.

    Attributes:
        needed: whether the export is not finished without; otherwise it is done without where
            its lane has no slot.
    """

    lane: Lane
    seconds: float
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is left of one export.

    Attributes:
        order: when it came, in seconds of any clock.
        lane: where its pictures are made, or else where it waits: there it queues.
        work: by lane.
        tails: what begins then, one after the other.
        begun: whether a slot of `lane` has worked for it before.
    """

    export_id: str
    user_id: str
    order: float
    lane: Lane
    work: Mapping[Lane, LaneWork]
    priority: int = 0
    tails: tuple[Tail, ...] = ()
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be expected of an export.

    Attributes:
        seconds: until it is finished; None while a lane that it needs has no slot.
        position: exports of its lane that have not begun and will before this one; 0 once it
            has begun.
    """

    seconds: float | None
    position: int


# By user and lane.
Served = Mapping[tuple[str, Lane], float]


def forecast(
    exports: Iterable[Backlog], lanes: Mapping[Lane, LaneSlots], served: Served | None = None
) -> dict[str, Outlook]:
    """Return the outlook of every export.

    Args:
        lanes: slots of every lane.
        served: when a task of a user ended last, by the clock of the exports.
    """
    ordered = sorted(exports, key=lambda item: (-item.priority, item.order))
    served = served or {}
    # Time goes on from what came or ended last.
    now = max((*(export.order for export in ordered), *served.values()), default=0.0)
    wholes = [
        _Whole(
            *(export, place, export.order - now),
            deque(tail for tail in export.tails if tail.needed or lanes[tail.lane].count),
        )
        for place, export in enumerate(ordered)
    ]
    _play(wholes, lanes, {key: ended - now for key, ended in served.items()})
    return {
        whole.export.export_id: Outlook(
            whole.ends if all(lanes[lane].count for lane in whole.needs()) else None,
            whole.position,
        )
        for whole in wholes
    }


@dataclass(slots=True)
class _Whole:
    """An export while it is played.

    Attributes:
        place: among the exports of its user, and of all.
        came: when it came; 0 is now.
        tails: those that have not begun.
        open: tasks that have not ended, but for these.
    """

    export: Backlog
    place: int
    came: float
    tails: deque[Tail]
    open: int = 0
    begun: bool = False
    position: int = 0
    ends: float = 0.0

    def needs(self) -> set[Lane]:
        """Return the lanes that have to have slots."""
        return {*self.export.work, *(tail.lane for tail in self.export.tails if tail.needed)}


@dataclass(slots=True)
class _User:
    """A user in one lane.

    Attributes:
        served: when a task ended last.
        in_flight: tasks that are sent or run.
        due: exports with tasks to send, as a heap, best first.
    """

    served: float
    in_flight: int = 0
    due: list[tuple[int, _Part]] = field(default_factory=list)

    def first(self) -> _Part | None:
        """Return the export whose task is sent next."""
        while self.due and not self.due[0][1].left:
            heappop(self.due)
        return self.due[0][1] if self.due else None


@dataclass(slots=True)
class _Part:
    """Tasks of an export in one lane.

    Attributes:
        next: seconds of its next task.
        rest: seconds of every one after that.
        left: tasks that have not been sent.
    """

    whole: _Whole
    lane: _Lane
    user: _User
    next: float = 0.0
    rest: float = 0.0
    left: int = 0


class _Clock:
    """The time, and the tasks that run."""

    def __init__(self) -> None:
        self.now = 0.0
        # By their end; the count keeps exports from being compared.
        self._running: list[tuple[float, int, _Part]] = []
        self._count = 0

    def start(self, part: _Part, seconds: float) -> None:
        self._count += 1
        heappush(self._running, (self.now + seconds, self._count, part))

    def ends(self) -> Iterator[_Part]:
        """Let time pass from one end to the next."""
        while self._running:
            self.now, _, part = heappop(self._running)
            yield part


class _Lane:
    """The slots of a lane, and what is in flight for them."""

    def __init__(self, name: Lane, slots: LaneSlots, clock: _Clock, served: Served) -> None:
        self.name = name
        # Without slots the order can be told all the same: it is that of one.
        self._free = max(1, slots.count)
        self._room = max(1, slots.count, slots.window)
        self._clock = clock
        self._served = served
        self._users: dict[str, _User] = {}
        self._sent: deque[tuple[float, _Part]] = deque()
        # Users by their turn. An entry that is no longer true is passed over.
        self._turns: list[tuple[int, float, int, _User]] = []
        self._count = 0
        self._begun = 0

    def take(self, wholes: Iterable[_Whole]) -> None:
        """Take the work of exports; far back, several tasks of one are taken together."""
        turns: dict[str, int] = {}
        queue: list[tuple[int, float, int, _Whole]] = []
        for whole in wholes:
            if self.name in whole.export.work:
                turn = turns[whole.export.user_id] = turns.get(whole.export.user_id, 0) + 1
                queue.append((turn, whole.export.order, whole.place, whole))
        queue.sort()
        harmonic = sum(1 / place for place in range(1, len(queue) + 1))
        sent: list[tuple[float, int, float, _Part]] = []
        for place, (*_, whole) in enumerate(queue, 1):
            part = _Part(whole, self, self._user(whole.export.user_id))
            work = whole.export.work[self.name]
            most = max(1, int(PLAYED_TASKS / harmonic / place))
            self._make_due(part, min(work.waiting, most), work)
            if self.name is whole.export.lane:
                whole.begun = whole.export.begun or bool(work.running)
            for seconds in work.running:
                self._take_place(part)
                self._start(part, seconds)
            for number, seconds in work.sent:
                self._take_place(part)
                sent.append((number, len(sent), seconds, part))
            whole.open += part.left + len(work.running) + len(work.sent)
        self._sent.extend((seconds, part) for *_, seconds, part in sorted(sent))
        for user in self._users.values():
            self._queue(user)

    def take_tail(self, whole: _Whole, seconds: float) -> None:
        """Take a last task of an export."""
        part = _Part(whole, self, self._user(whole.export.user_id))
        self._make_due(part, 1, LaneWork(waiting=1, work=seconds))
        self._queue(part.user)

    def fill(self) -> None:
        """Send what the window has room for, and start what the slots have."""
        while self._room > 0 and (part := self._next()) is not None:
            self._take_place(part)
            self._sent.append((part.next, part))
            part.next = part.rest
            part.left -= 1
            self._queue(part.user)
        while self._free > 0 and self._sent:
            seconds, part = self._sent.popleft()
            self._start(part, seconds)

    def end(self, part: _Part) -> None:
        """Take back the slot of a task."""
        self._free += 1
        self._room += 1
        part.user.in_flight -= 1
        part.user.served = self._clock.now
        self._queue(part.user)

    def _user(self, name: str) -> _User:
        if name not in self._users:
            self._users[name] = _User(self._served.get((name, self.name), float("-inf")))
        return self._users[name]

    def _make_due(self, part: _Part, count: int, work: LaneWork) -> None:
        if count:
            part.left = count
            part.next = max(work.longest, work.work / count)
            part.rest = max(0.0, work.work - part.next) / max(1, count - 1)
            heappush(part.user.due, (part.whole.place, part))

    def _queue(self, user: _User) -> None:
        part = user.first()
        if part is not None:
            self._count += 1
            since = max(part.whole.came, user.served)
            heappush(self._turns, (user.in_flight, since, self._count, user))

    def _next(self) -> _Part | None:
        while self._turns:
            in_flight, since, _, user = heappop(self._turns)
            if in_flight != user.in_flight:
                continue
            part = user.first()
            if part is not None and since == max(part.whole.came, user.served):
                return part
        return None

    def _take_place(self, part: _Part) -> None:
        self._room -= 1
        part.user.in_flight += 1

    def _start(self, part: _Part, seconds: float) -> None:
        self._free -= 1
        whole = part.whole
        if whole.export.lane is self.name and not whole.begun:
            whole.begun = True
            whole.position = self._begun
            self._begun += 1
        self._clock.start(part, seconds)


def _play(wholes: list[_Whole], slots: Mapping[Lane, LaneSlots], served: Served) -> None:
    """Let everything end."""
    clock = _Clock()
    lanes = {name: _Lane(name, slots[name], clock, served) for name in slots}
    for lane in lanes.values():
        lane.take(wholes)

    def begin_tail(whole: _Whole) -> _Lane | None:
        if whole.open or not whole.tails:
            return None
        tail = whole.tails.popleft()
        whole.open = 1
        lanes[tail.lane].take_tail(whole, tail.seconds)
        return lanes[tail.lane]

    for whole in wholes:
        begin_tail(whole)
    for lane in lanes.values():
        lane.fill()
    for part in clock.ends():
        part.whole.open -= 1
        part.whole.ends = clock.now
        part.lane.end(part)
        goes_on = begin_tail(part.whole)
        part.lane.fill()
        if goes_on is not None:
            goes_on.fill()
