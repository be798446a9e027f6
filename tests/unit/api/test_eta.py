"""When exports will be finished: cases that can be worked out by hand, and properties."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.eta import PLAYED_TASKS, Backlog, Outlook, forecast

_order = count()


def whole(name: str, seconds: float = 10.0, user: str | None = None, **more: object) -> Backlog:
    """Return an export of one task, younger than all before it; each of a user of its own."""
    return parts(name, 1, seconds, user=user, **more)


def parts(name: str, tasks: int, each: float, user: str | None = None, **more: object) -> Backlog:
    """Return an export of equal tasks."""
    return Backlog(
        export_id=name,
        user_id=user or f"user of {name}",
        order=next(_order),
        waiting=tasks,
        work=tasks * each,
        longest=each,
        **more,  # type: ignore[arg-type]
    )


def seconds(*exports: Backlog, slots: int = 1) -> dict[str, float]:
    """Return when each export is finished."""
    found = forecast(exports, slots=slots, window=slots + 2)
    return {name: round(outlook.seconds or 0.0, 6) for name, outlook in found.items()}


def positions(*exports: Backlog, slots: int = 1) -> dict[str, int]:
    found = forecast(exports, slots=slots, window=slots + 2)
    return {name: outlook.position for name, outlook in found.items()}


def test_nothing_waits() -> None:
    assert forecast([], slots=3, window=5) == {}


def test_one_task_takes_its_time() -> None:
    assert seconds(whole("a")) == {"a": 10}


def test_running_task_takes_what_is_left() -> None:
    running = Backlog("a", "anna", 0, begun=True, running=(4.0,))
    assert forecast([running], slots=1, window=3) == {"a": Outlook(4.0, 0)}


def test_equal_parts_are_made_side_by_side_and_then_assembled() -> None:
    assert seconds(parts("a", 8, 2.0, tail=1.5), slots=1) == {"a": 17.5}
    assert seconds(parts("a", 8, 2.0, tail=1.5), slots=4) == {"a": 5.5}
    # Five slots make eight parts in two rounds, too.
    assert seconds(parts("a", 8, 2.0, tail=1.5), slots=5) == {"a": 5.5}


def test_longest_task_begins_first() -> None:
    # One of 6 s and six of 1 s.
    export = Backlog("a", "anna", 0, waiting=7, work=12.0, longest=6.0)
    assert seconds(export, slots=2) == {"a": 6}


def test_tail_alone_is_left() -> None:
    assert seconds(Backlog("a", "anna", 0, begun=True, tail=2.0)) == {"a": 2}


def test_tail_begins_after_the_parts_that_run() -> None:
    assert seconds(Backlog("a", "anna", 0, running=(1.0, 3.0), tail=2.0), slots=2) == {"a": 5}


def test_nothing_left_is_finished_now() -> None:
    assert forecast([Backlog("a", "anna", 0)], slots=1, window=3) == {"a": Outlook(0.0, 0)}


def test_exports_of_one_task_are_served_in_their_order() -> None:
    exports = [whole("a"), whole("b"), whole("c")]
    assert seconds(*exports) == {"a": 10, "b": 20, "c": 30}
    assert seconds(*exports, slots=2) == {"a": 10, "b": 10, "c": 20}
    assert positions(*exports) == {"a": 0, "b": 1, "c": 2}


def test_order_of_the_exports_given_does_not_matter() -> None:
    a, b = whole("a"), whole("b")
    assert seconds(b, a) == {"a": 10, "b": 20}


def test_running_task_is_not_held_up_by_others() -> None:
    running = Backlog("a", "anna", 0, begun=True, running=(4.0,))
    assert seconds(running, whole("b", 6.0)) == {"a": 4, "b": 10}


def test_user_with_fewest_in_flight_is_next() -> None:
    hers = [whole(name, user="anna") for name in "abc"]
    assert seconds(*hers, whole("d")) == {"a": 10, "d": 20, "b": 30, "c": 40}
    assert positions(*hers, whole("d")) == {"a": 0, "d": 1, "b": 2, "c": 3}


def test_priority_counts_within_a_user_alone() -> None:
    a, b = whole("a", user="anna"), whole("b", user="anna", priority=5)
    c = whole("c", user="ben", priority=9)
    # Anna's next is older than Ben's only if it is `a`: the order of `b` counts.
    assert seconds(a, b, c) == {"b": 10, "c": 20, "a": 30}


def test_short_export_behind_a_long_one_waits_for_what_was_sent() -> None:
    # A long export, 3 of whose parts are in flight; another user's short one comes.
    long = Backlog(
        "long",
        "anna",
        0,
        running=(1.0,),
        sent=((7.0, 4.0), (8.0, 5.0)),
        waiting=98,
        work=392,
        longest=4,
    )
    found = seconds(long, whole("short", 10.0, user="ben"))
    assert found == {"short": 1 + 4 + 5 + 10, "long": 1 + 4 + 5 + 392 + 10}


def test_tasks_begin_in_the_order_they_were_sent() -> None:
    a = Backlog("a", "anna", 0, sent=((2.0, 10.0),))
    b = Backlog("b", "ben", 1, sent=((1.0, 5.0), (3.0, 1.0)))
    assert seconds(a, b) == {"b": 16, "a": 15}
    assert positions(a, b) == {"b": 0, "a": 1}


def test_what_was_sent_counts_for_the_turn_of_its_user() -> None:
    hers = Backlog("a", "anna", 0, sent=((1.0, 10.0),), waiting=1, work=10.0, longest=10.0)
    assert seconds(hers, whole("b")) == {"a": 30, "b": 20}


def test_user_who_has_waited_longest_is_next() -> None:
    # Of a long export and a younger one of one task.
    found = seconds(parts("a", 100, 1.0), whole("b", 5.0))
    assert found == {"b": 6, "a": 105}


def test_user_who_was_served_lately_lets_others_go_first() -> None:
    a, b, c = whole("a"), whole("b"), whole("c")
    found = seconds(replace(a, served=b.order + 0.5), b, c)
    assert found == {"b": 10, "a": 20, "c": 30}


def test_more_long_exports_than_slots_are_made_by_turns() -> None:
    found = seconds(*(parts(name, 100, 1.0) for name in "abc"), slots=2)
    assert found == {name: pytest.approx(150, abs=1) for name in "abc"}


def test_long_exports_of_two_users_share_the_slots() -> None:
    found = seconds(parts("a", 100, 1.0), parts("b", 100, 1.0), slots=2)
    assert found == {"a": 100, "b": 100}


def test_slots_that_one_user_cannot_fill_go_to_the_other() -> None:
    # One task of 30 s; 4 slots are left for the other's 60 s of work, then 5.
    found = seconds(whole("a", 30.0), parts("b", 60, 1.0), slots=5)
    assert found == {"a": 30, "b": 15}


def test_task_that_runs_on_an_encoder_that_takes_no_more_leaves_no_slot() -> None:
    running = Backlog("a", "anna", 0, running=(3.0, 5.0))
    assert seconds(running, whole("b"), slots=1) == {"a": 5, "b": 15}


def test_without_slots_there_is_an_order_and_no_time() -> None:
    found = forecast([whole("a"), whole("b")], slots=0, window=2)
    assert found == {"a": Outlook(None, 0), "b": Outlook(None, 1)}


def test_position_counts_exports_that_have_not_begun() -> None:
    begun = parts("a", 10, 1.0, begun=True)
    assert positions(begun, whole("b"), whole("c")) == {"a": 0, "b": 0, "c": 1}


@pytest.mark.parametrize("slots", [1, 16])
def test_far_more_tasks_than_are_played_end_at_about_the_same_time(slots: int) -> None:
    exports = [parts(f"{n}", 300, 1.0, user="anna", tail=1.0) for n in range(100)]
    found = seconds(*exports, slots=slots)
    for n in range(100):
        # One after the other, for all are one user's.
        assert found[str(n)] == pytest.approx((n + 1) * 301 / slots, rel=0.15)


def test_many_tasks_are_played_few_at_a_time() -> None:
    exports = [parts(f"{n}", 1000, 1.0) for n in range(1000)]
    found = forecast(exports, slots=8, window=12)
    total = max(outlook.seconds or 0.0 for outlook in found.values())
    assert total >= 1_000_000 / 8
    assert PLAYED_TASKS < 1_000_000 / 100


durations = st.floats(0.1, 50)
sent = st.tuples(st.floats(0, 9), durations)


def tasks(export: Backlog) -> list[float]:
    """Return what its tasks need but for its tail; of those that wait one may be longer."""
    sizes = [*export.running, *(seconds for _, seconds in export.sent)]
    rest = (export.work - export.longest) / max(1, export.waiting - 1)
    return [*sizes, export.longest, *[rest] * (export.waiting - 1)]


@st.composite
def backlogs(draw: st.DrawFn, single: bool = False) -> list[Backlog]:
    """Draw exports of a few users."""
    found = []
    for n in range(draw(st.integers(1, 8))):
        waiting = 1 if single else draw(st.integers(0, 12))
        longest = draw(durations) if waiting else 0.0
        rest = draw(st.floats(0, 1)) * longest * (waiting - 1) if waiting else 0.0
        found.append(
            Backlog(
                export_id=f"exp_{n}",
                user_id=draw(st.sampled_from(["anna", "ben", "cleo"])),
                order=n,
                priority=draw(st.sampled_from([0, 0, 7])),
                running=() if single else tuple(draw(st.lists(durations, max_size=1))),
                sent=() if single else tuple(draw(st.lists(sent, max_size=2))),
                waiting=waiting,
                work=longest + rest,
                longest=longest,
                tail=0.0 if single else draw(st.sampled_from([0.0, 0.0, 3.0])),
            )
        )
    return found


@given(backlogs(), st.integers(1, 6))
def test_work_is_neither_lost_nor_made_and_no_slot_idles(
    exports: list[Backlog], slots: int
) -> None:
    found = forecast(exports, slots=slots, window=slots + 2)
    ends = max(outlook.seconds or 0.0 for outlook in found.values())
    work = sum(sum(tasks(item)) + item.tail for item in exports)
    chain = max(max(tasks(item)) + item.tail for item in exports)
    taken = max(slots, sum(len(item.running) for item in exports))
    assert ends >= work / taken - 1e-6
    # Graham's bound: a slot idles only while the longest chain of tasks goes on. What runs
    # at first may be more than the slots.
    assert ends <= work / slots + chain + 1e-6


@given(backlogs(), st.integers(1, 6))
def test_no_export_is_faster_than_its_own_tasks(exports: list[Backlog], slots: int) -> None:
    found = forecast(exports, slots=slots, window=slots + 2)
    for item in exports:
        chain = max(tasks(item)) + item.tail
        alone = item.work / slots + item.tail
        assert (found[item.export_id].seconds or 0.0) >= max(chain, alone) - 1e-6


@given(backlogs(), st.integers(1, 6))
def test_positions_of_what_has_not_begun_are_those_of_a_queue(
    exports: list[Backlog], slots: int
) -> None:
    found = forecast(exports, slots=slots, window=slots + 2)
    queued = [
        found[e.export_id].position for e in exports if not e.running and any(tasks(e)) + e.tail
    ]
    assert sorted(queued) == list(range(len(queued)))


@given(backlogs(single=True), st.integers(1, 6), durations, st.booleans())
def test_another_export_makes_none_earlier(
    exports: list[Backlog], slots: int, longest: float, shared: bool
) -> None:
    # All of one user, or each of another. Between users with several exports one that is
    # delayed may let another pass, as with every rule that lets tasks run to their end.
    exports = [replace(e, user_id="anna" if shared else e.export_id) for e in exports]
    last, first = len(exports), -1
    for order in (last, first):
        user = "anna" if shared else "new"
        new = Backlog("new", user, order, waiting=1, work=longest, longest=longest)
        before = forecast(exports, slots=slots, window=slots + 2)
        after = forecast([*exports, new], slots=slots, window=slots + 2)
        for item in exports:
            earlier, later = before[item.export_id], after[item.export_id]
            assert (later.seconds or 0.0) >= (earlier.seconds or 0.0) - 1e-6
            assert later.position >= earlier.position


@given(backlogs(single=True), st.integers(1, 6))
def test_half_the_time_of_every_task_is_half_the_time_of_every_export(
    exports: list[Backlog], slots: int
) -> None:
    half = [replace(item, work=item.work / 2, longest=item.longest / 2) for item in exports]
    whole_time = forecast(exports, slots=slots, window=slots + 2)
    for name, outlook in forecast(half, slots=slots, window=slots + 2).items():
        assert outlook.seconds == pytest.approx((whole_time[name].seconds or 0.0) / 2)
