"""When exports will be finished: cases that can be worked out by hand, and properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.eta import (
    PLAYED_TASKS,
    Backlog,
    LaneSlots,
    LaneWork,
    Outlook,
    Served,
    Tail,
    forecast,
)
from services.common.subjects import Lane

_order = count()


def joining(seconds: float) -> Tail:
    return Tail(Lane.MUX, seconds)


def tail_of(item: Backlog) -> float:
    """Return what all its tails need."""
    return sum(tail.seconds for tail in item.tails)


def export(
    name: str,
    pictures: LaneWork,
    user: str | None = None,
    *,
    sound: LaneWork | None = None,
    **more: Any,
) -> Backlog:
    """Return an export, younger than all before it; each of a user of its own."""
    work = {Lane.CPU: pictures} | ({} if sound is None else {Lane.MUX: sound})
    user = user or f"user of {name}"
    return Backlog(name, user, next(_order), Lane.CPU, work, **more)


def whole(name: str, each: float = 10.0, user: str | None = None, **more: Any) -> Backlog:
    """Return an export of one task."""
    return parts(name, 1, each, user=user, **more)


def parts(name: str, tasks: int, each: float, user: str | None = None, **more: Any) -> Backlog:
    """Return an export of equal tasks."""
    return export(name, LaneWork(waiting=tasks, work=tasks * each, longest=each), user, **more)


def outlooks(
    exports: Sequence[Backlog],
    slots: int = 1,
    *,
    mux: int = 100,
    window: int | None = None,
    served: Served | None = None,
) -> dict[str, Outlook]:
    """Return what to expect; there are slots enough for sounds and assemblies."""
    lanes = {
        Lane.CPU: LaneSlots(slots, slots if window is None else window),
        Lane.MUX: LaneSlots(mux, mux),
    }
    return forecast(exports, lanes, served)


def seconds(*exports: Backlog, slots: int = 1, **more: Any) -> dict[str, float]:
    """Return when each export is finished."""
    found = outlooks(exports, slots, **more)
    return {name: round(outlook.seconds or 0.0, 6) for name, outlook in found.items()}


def positions(*exports: Backlog, slots: int = 1, **more: Any) -> dict[str, int]:
    return {name: item.position for name, item in outlooks(exports, slots, **more).items()}


def test_nothing_waits() -> None:
    assert outlooks([]) == {}


def test_one_task_takes_its_time() -> None:
    assert seconds(whole("a")) == {"a": 10}


def test_running_task_takes_what_is_left() -> None:
    assert outlooks([export("a", LaneWork(running=(4.0,)))]) == {"a": Outlook(4.0, 0)}


def test_equal_parts_are_made_side_by_side_and_then_assembled() -> None:
    assert seconds(parts("a", 8, 2.0, tails=(joining(1.5),)), slots=1) == {"a": 17.5}
    assert seconds(parts("a", 8, 2.0, tails=(joining(1.5),)), slots=4) == {"a": 5.5}
    # Five slots make eight parts in two rounds, too.
    assert seconds(parts("a", 8, 2.0, tails=(joining(1.5),)), slots=5) == {"a": 5.5}


def test_longest_task_begins_first() -> None:
    # One of 6 s and six of 1 s.
    uneven = export("a", LaneWork(waiting=7, work=12.0, longest=6.0))
    assert seconds(uneven, slots=2) == {"a": 6}


def test_tail_alone_is_left() -> None:
    alone = Backlog("a", "anna", 0, Lane.MUX, {}, tails=(joining(2.0),))
    assert seconds(alone) == {"a": 2}


def test_tail_begins_after_the_last_task_of_every_lane() -> None:
    pictures = LaneWork(running=(1.0, 3.0))
    for needed, ends in ((2.0, 5), (7.0, 9)):
        sound = LaneWork(waiting=1, work=needed)
        assert seconds(export("a", pictures, sound=sound, tails=(joining(2.0),)), slots=2) == {
            "a": ends
        }


def test_tails_wait_for_slots_of_their_own_lane() -> None:
    exports = [parts(name, 2, 1.0, tails=(joining(5.0),)) for name in "abc"]
    found = seconds(*exports, whole("d", 3.0), slots=7, mux=1)
    # Meanwhile the pictures of others are made.
    assert found == {"a": 6, "b": 11, "c": 16, "d": 3}


def test_tails_begin_one_after_the_other() -> None:
    compared = (joining(2.0), Tail(Lane.CPU, 3.0, needed=False))
    assert seconds(parts("a", 2, 1.0, tails=compared), slots=2) == {"a": 6}
    assert seconds(whole("a", 4.0, tails=compared[1:])) == {"a": 7}
    # It waits for a slot as any other task does.
    assert seconds(whole("a", 4.0, tails=compared[1:]), whole("b", 5.0)) == {"a": 12, "b": 9}


def test_tail_that_is_not_needed_is_left_out_where_nobody_does_it() -> None:
    compared = Tail(Lane.CPU, 3.0, needed=False)
    joined = Backlog("a", "anna", 0, Lane.MUX, {Lane.MUX: LaneWork(running=(2.0,))})
    assert outlooks([replace(joined, tails=(compared,))], slots=0) == {"a": Outlook(2.0, 0)}
    assert outlooks([replace(joined, tails=(replace(compared, needed=True),))], slots=0) == {
        "a": Outlook(None, 0)
    }


def test_nothing_left_is_finished_now() -> None:
    assert outlooks([export("a", LaneWork())]) == {"a": Outlook(0.0, 0)}


def test_exports_of_one_task_are_served_in_their_order() -> None:
    exports = [whole("a"), whole("b"), whole("c")]
    assert seconds(*exports) == {"a": 10, "b": 20, "c": 30}
    assert seconds(*exports, slots=2) == {"a": 10, "b": 10, "c": 20}
    assert positions(*exports) == {"a": 0, "b": 1, "c": 2}


def test_order_of_the_exports_given_does_not_matter() -> None:
    a, b = whole("a"), whole("b")
    assert seconds(b, a) == {"a": 10, "b": 20}


def test_running_task_is_not_held_up_by_others() -> None:
    running = export("a", LaneWork(running=(4.0,)))
    assert seconds(running, whole("b", 6.0)) == {"a": 4, "b": 10}


def test_users_take_turns_however_many_exports_they_have() -> None:
    exports = [*(whole(name, user="anna") for name in "abc"), whole("d")]
    assert seconds(*exports) == {"a": 10, "d": 20, "b": 30, "c": 40}
    assert positions(*exports) == {"a": 0, "d": 1, "b": 2, "c": 3}


def test_priority_counts_within_a_user_alone() -> None:
    a, b = whole("a", user="anna"), whole("b", user="anna", priority=5)
    c = whole("c", user="ben", priority=9)
    # Anna's next is `b`, which is older than Ben's.
    assert seconds(a, b, c) == {"b": 10, "c": 20, "a": 30}


def test_short_export_behind_a_long_one_waits_for_what_was_sent() -> None:
    # A long export, 3 of whose parts are in flight; another user's short one comes.
    work = LaneWork(running=(1.0,), sent=((7.0, 4.0), (8.0, 5.0)), waiting=98, work=392, longest=4)
    found = seconds(export("long", work), whole("short", 10.0), window=3)
    assert found == {"short": 1 + 4 + 5 + 10, "long": 1 + 4 + 5 + 392 + 10}


def test_tasks_begin_in_the_order_they_were_sent() -> None:
    a = export("a", LaneWork(sent=((2.0, 10.0),)))
    b = export("b", LaneWork(sent=((1.0, 5.0), (3.0, 1.0))))
    assert seconds(a, b) == {"b": 16, "a": 15}
    assert positions(a, b) == {"b": 0, "a": 1}


def test_window_lets_tasks_be_sent_ahead_of_the_slots() -> None:
    # With one place alone the second of Anna's would wait until the third user is served.
    hers = [parts(name, 2, 10.0) for name in "ab"]
    assert seconds(*hers, whole("c"), window=2) == {"c": 30, "a": 40, "b": 50}


def test_what_was_sent_counts_for_the_turn_of_its_user() -> None:
    hers = export("a", LaneWork(sent=((1.0, 10.0),), waiting=1, work=10.0, longest=10.0))
    assert seconds(hers, whole("b"), window=3) == {"a": 30, "b": 20}


def test_user_who_has_waited_longest_is_next() -> None:
    # Of a long export and a younger one of one task.
    assert seconds(parts("a", 100, 1.0), whole("b", 5.0)) == {"b": 6, "a": 105}


def test_user_who_was_served_lately_lets_others_go_first() -> None:
    a, b, c = whole("a"), whole("b"), whole("c")
    lately = {("user of a", Lane.CPU): b.order + 0.5}
    assert seconds(a, b, c, served=lately) == {"b": 10, "a": 20, "c": 30}
    elsewhere = {("user of a", Lane.MUX): b.order + 0.5}
    assert seconds(a, b, c, served=elsewhere) == {"a": 10, "b": 20, "c": 30}


def test_more_long_exports_than_slots_are_made_by_turns() -> None:
    found = seconds(*(parts(name, 100, 1.0) for name in "abc"), slots=2)
    assert found == {name: pytest.approx(150, abs=1) for name in "abc"}


def test_long_exports_of_two_users_share_the_slots() -> None:
    found = seconds(parts("a", 100, 1.0), parts("b", 100, 1.0), slots=2)
    assert found == {"a": 100, "b": 100}


def test_slots_that_one_user_cannot_fill_go_to_the_other() -> None:
    # One task of 30 s; 4 slots are left for the other's 60 s of work.
    found = seconds(whole("a", 30.0), parts("b", 60, 1.0), slots=5)
    assert found == {"a": 30, "b": 15}


def test_task_that_runs_on_an_encoder_that_takes_no_more_leaves_no_slot() -> None:
    running = export("a", LaneWork(running=(3.0, 5.0)))
    assert seconds(running, whole("b"), slots=1) == {"a": 5, "b": 15}


def test_without_slots_there_is_an_order_and_no_time() -> None:
    found = outlooks([whole("a"), whole("b")], slots=0)
    assert found == {"a": Outlook(None, 0), "b": Outlook(None, 1)}


def test_without_slots_for_the_tail_there_is_no_time() -> None:
    found = outlooks([parts("a", 2, 1.0, tails=(joining(1.0),)), whole("b")], slots=1, mux=0)
    assert found["a"].seconds is None
    assert found["b"].seconds == 11


def test_position_counts_exports_of_the_lane_that_have_not_begun() -> None:
    begun = parts("a", 10, 1.0, begun=True)
    copy = Backlog("b", "b", next(_order), Lane.MUX, {Lane.MUX: LaneWork(waiting=1, work=1.0)})
    found = positions(begun, copy, whole("c"), whole("d"))
    assert found == {"a": 0, "b": 0, "c": 0, "d": 1}


def test_sound_that_is_made_early_does_not_begin_the_export() -> None:
    work = LaneWork(waiting=2, work=10.0, longest=5.0)
    exports = [export(name, work, sound=LaneWork(running=(1.0,))) for name in "ab"]
    assert positions(*exports) == {"a": 0, "b": 1}


@pytest.mark.parametrize("slots", [1, 16])
def test_far_more_tasks_than_are_played_end_at_about_the_same_time(slots: int) -> None:
    exports = [parts(f"{n}", 300, 1.0, user="anna", tails=(joining(1.0),)) for n in range(100)]
    found = seconds(*exports, slots=slots)
    for n in range(100):
        # One after the other, for all are one user's.
        assert found[str(n)] == pytest.approx((n + 1) * 300 / slots + 1, rel=0.15)


def test_many_tasks_are_played_few_at_a_time() -> None:
    exports = [parts(f"{n}", 1000, 1.0) for n in range(1000)]
    found = outlooks(exports, slots=8)
    total = max(outlook.seconds or 0.0 for outlook in found.values())
    assert total >= 1_000_000 / 8
    assert PLAYED_TASKS < 1_000_000 / 100


durations = st.floats(0.1, 50)
sent = st.tuples(st.floats(0, 9), durations)


def tasks(export: Backlog) -> list[float]:
    """Return what its tasks need but for its tail; of those that wait one may be longer."""
    found = []
    for work in export.work.values():
        rest = (work.work - work.longest) / max(1, work.waiting - 1)
        waiting = [work.longest, *[rest] * (work.waiting - 1)]
        found += [*work.running, *(needed for _, needed in work.sent), *waiting]
    return found


@st.composite
def lane_works(draw: st.DrawFn, single: bool) -> LaneWork:
    """Draw the work of an export in a lane."""
    waiting = 1 if single else draw(st.integers(0, 12))
    longest = draw(durations) if waiting else 0.0
    rest = draw(st.floats(0, 1)) * longest * (waiting - 1) if waiting else 0.0
    if single:
        return LaneWork(waiting=1, work=longest, longest=longest)
    running = tuple(draw(st.lists(durations, max_size=1)))
    return LaneWork(
        running, tuple(draw(st.lists(sent, max_size=2))), waiting, longest + rest, longest
    )


@st.composite
def backlogs(draw: st.DrawFn, single: bool = False) -> list[Backlog]:
    """Draw exports of a few users."""
    found = []
    for n in range(draw(st.integers(1, 8))):
        work = {Lane.CPU: draw(lane_works(single))}
        if not single and draw(st.booleans()):
            work[Lane.MUX] = draw(lane_works(False))
        found.append(
            Backlog(
                export_id=f"exp_{n}",
                user_id=draw(st.sampled_from(["anna", "ben", "cleo"])),
                order=n,
                lane=Lane.CPU,
                work=work,
                priority=draw(st.sampled_from([0, 0, 7])),
                tails=() if single else draw(st.sampled_from([(), (), (joining(3.0),)])),
            )
        )
    return found


slot_counts = st.integers(1, 6)


@given(backlogs(), slot_counts, slot_counts)
def test_work_is_not_lost_and_no_slot_idles(exports: list[Backlog], slots: int, mux: int) -> None:
    ends = max(item.seconds or 0.0 for item in outlooks(exports, slots, mux=mux).values())
    chain = max(max(tasks(item), default=0.0) + tail_of(item) for item in exports)
    most = chain
    for lane, number in ((Lane.CPU, slots), (Lane.MUX, mux)):
        its = [replace(e, work={lane: e.work[lane]}) for e in exports if lane in e.work]
        work = sum(sum(tasks(item)) for item in its)
        if lane is Lane.MUX:
            work += sum(tail_of(item) for item in exports)
        taken = max(number, sum(len(item.work[lane].running) for item in its))
        assert ends >= work / taken - 1e-6
        most += work / number
    # Graham's bound, for two kinds of slots: one idles only while a chain of tasks goes on.
    assert ends <= most + 1e-6


@given(backlogs(), slot_counts)
def test_no_export_is_faster_than_its_own_tasks(exports: list[Backlog], slots: int) -> None:
    found = outlooks(exports, slots)
    for item in exports:
        chain = max(tasks(item), default=0.0) + tail_of(item)
        alone = item.work[Lane.CPU].work / slots + tail_of(item)
        assert (found[item.export_id].seconds or 0.0) >= max(chain, alone) - 1e-6


@given(backlogs(), slot_counts)
def test_positions_of_what_has_not_begun_are_those_of_a_queue(
    exports: list[Backlog], slots: int
) -> None:
    found = outlooks(exports, slots)
    queued = [
        found[item.export_id].position
        for item in exports
        if not item.work[Lane.CPU].running and any(tasks(replace(item, work=cpu(item))))
    ]
    assert sorted(queued) == list(range(len(queued)))


def cpu(export: Backlog) -> dict[Lane, LaneWork]:
    return {Lane.CPU: export.work[Lane.CPU]}


@given(backlogs(single=True), slot_counts, durations, st.booleans())
def test_another_export_makes_none_earlier(
    exports: list[Backlog], slots: int, longest: float, shared: bool
) -> None:
    # All of one user, or each of another. Between users with several exports one that is
    # delayed may let another pass, as with every rule that lets tasks run to their end.
    exports = [replace(e, user_id="anna" if shared else e.export_id) for e in exports]
    last, first = len(exports), -1
    for order in (last, first):
        user = "anna" if shared else "new"
        work = LaneWork(waiting=1, work=longest, longest=longest)
        new = Backlog("new", user, order, Lane.CPU, {Lane.CPU: work})
        before, after = outlooks(exports, slots), outlooks([*exports, new], slots)
        for item in exports:
            earlier, later = before[item.export_id], after[item.export_id]
            assert (later.seconds or 0.0) >= (earlier.seconds or 0.0) - 1e-6
            assert later.position >= earlier.position
