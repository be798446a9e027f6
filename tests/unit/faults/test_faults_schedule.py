"""Schedules and orders: the same for the same seed, fair, and within what restarts allow."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from faults.catalogue import FAULTS
from faults.orders import CLIPS, SHARES, Fate, orders
from faults.schedule import MOST_DEATHS, Kind, plan
from services.local.supervisor import RESTART_WINDOW_S, RESTARTS_PER_WINDOW

KINDS = [fault.kind for fault in FAULTS.values()]
# One part that three kinds end, as Postgres is.
DEADLY = [Kind(name, ["", "x"], {"": ["postgres"], "x": ["postgres"]}) for name in "abc"]
# Each example is a whole schedule.
FEW = settings(max_examples=20)
SEEDS = st.integers(0, 1_000_000)


@FEW
@given(seed=SEEDS)
def test_schedule_is_that_of_its_seed_in_order_of_time(seed: int) -> None:
    planned = plan(seed, KINDS, 60, 8.0)
    assert planned == plan(seed, list(reversed(KINDS)), 60, 8.0)
    assert planned != plan(seed + 1, KINDS, 60, 8.0)
    assert len(planned) == 60
    assert all(before.at < after.at for before, after in pairwise(planned))


@FEW
@given(seed=SEEDS, count=st.integers(1, 200))
def test_every_kind_comes_as_often_as_the_others(seed: int, count: int) -> None:
    often = Counter(each.fault for each in plan(seed, KINDS, count, 8.0))
    counts = [often[kind.name] for kind in KINDS]
    assert max(counts) - min(counts) <= 1


@FEW
@given(seed=SEEDS)
def test_targets_of_a_kind_come_in_turn(seed: int) -> None:
    planned = plan(seed, KINDS, 6 * len(KINDS), 8.0)
    hit = Counter(each.target for each in planned if each.fault == "encoder-kill")
    assert hit == {"encoder-1": 2, "encoder-2": 2, "encoder-3": 2}


@FEW
@given(seed=SEEDS, every=st.floats(0.1, 20))
def test_no_part_dies_more_often_than_the_supervisor_restarts_it_at_once(
    seed: int, every: float
) -> None:
    assert MOST_DEATHS < RESTARTS_PER_WINDOW
    planned = plan(seed, DEADLY, 30, every)
    times = [each.at for each in planned]
    for first, later in zip(times, times[MOST_DEATHS:], strict=False):
        assert later - first >= RESTART_WINDOW_S - 0.02


def test_another_fault_is_put_first_while_a_part_must_not_die() -> None:
    kinds = [*DEADLY, Kind("harmless", [""], {})]
    planned = plan(1, kinds, 8, 1.0)
    assert [each.fault for each in planned[:4]].count("harmless") == 1
    assert max(each.at for each in planned if each.fault == "harmless") < RESTART_WINDOW_S


@FEW
@given(seed=SEEDS)
def test_orders_are_those_of_their_seed_and_lie_in_their_clips(seed: int) -> None:
    made = list(islice(orders(seed), 40))
    assert made == list(islice(orders(seed), 40))
    assert Counter(order.fate for order in made) == SHARES
    for order in made:
        assert order.clip in CLIPS
        assert all(0 <= start < end <= order.clip for start, end in order.ranges)
        assert len(order.frames) == sum(end - start for start, end in order.ranges)


def test_same_order_is_one_that_the_user_has_made_before() -> None:
    before: list[tuple[int, int, object]] = []
    repeated = 0
    for order in islice(orders(3), 200):
        what = (order.user, order.clip, order.ranges)
        repeated += order.fate is Fate.SAME and what in before
        before.append(what)
    assert repeated > 15


def test_catalogue_names_targets_and_reasons() -> None:
    for fault in FAULTS.values():
        assert fault.does
        assert fault.recovery
        assert set(fault.ends) <= set(fault.targets), fault.name
