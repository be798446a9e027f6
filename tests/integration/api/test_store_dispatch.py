"""Which tasks are sent out, in what order, and how many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from api_long import long_export
from api_rig import Case, Rig

from services.api.store.records import TaskRecord
from services.common.subjects import Lane


async def tasks_of(rig: Rig, users: str, **options: int) -> list[str]:
    """Create an export for each letter, oldest first; return their tasks."""
    return [(await rig.create(user, **options)).task.id for user in users]  # type: ignore[arg-type]


async def test_window_bounds_what_is_in_flight(rig: Rig) -> None:
    made = await tasks_of(rig, "abcde")
    assert await rig.dispatch(window=2) == made[:2]
    assert await rig.dispatch(window=2) == []
    assert await rig.dispatch(window=3) == made[2:3]
    await rig.sql("UPDATE tasks SET state = 'SUCCEEDED' WHERE id = %s", made[0])
    assert await rig.dispatch(window=3) == made[3:4]


async def test_window_counts_running_tasks_too(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    waiting = await rig.create()
    assert await rig.dispatch(window=1) == []
    assert await rig.dispatch(window=2) == [waiting.task.id]


async def test_window_that_has_shrunk_lets_nothing_out(rig: Rig) -> None:
    await tasks_of(rig, "abcd")
    assert len(await rig.dispatch(window=3)) == 3
    assert await rig.dispatch(window=1) == []
    assert await rig.dispatch(window=0) == []


async def test_task_that_is_sent_out_counts_as_heard_of(rig: Rig) -> None:
    # Or it would never be missed, should its message be lost before any encoder has it.
    case = await rig.create()
    await rig.dispatch()
    heard = "SELECT now() - seen_at < interval '10 seconds' AND dispatched_at = seen_at FROM tasks"
    assert await rig.value(heard)
    assert (await case.task_row())["state"] == "DISPATCHED"


async def test_lanes_have_windows_of_their_own(rig: Rig) -> None:
    cpu, gpu = await rig.create(), await rig.create(lane=Lane.GPU)
    probe = await rig.create(probe=True)
    assert await rig.dispatch(Lane.CPU, window=1) == [cpu.task.id]
    assert await rig.dispatch(Lane.GPU, window=1) == [gpu.task.id]
    assert await rig.dispatch(Lane.PROBE, window=1) == [probe.task.id]


async def test_users_take_turns_however_many_exports_they_have(rig: Rig) -> None:
    a1, a2, a3, b1, a4, c1, b2 = await tasks_of(rig, "aaabacb")
    # Everyone's first by age, then everyone's second, and so on.
    assert await rig.dispatch(window=4) == [a1, b1, c1, a2]
    # a has two in flight, b and c one each.
    assert await rig.dispatch(window=5) == [b2]
    assert await rig.dispatch(window=7) == [a3, a4]


async def test_user_with_fewest_in_flight_is_next(rig: Rig) -> None:
    first = await tasks_of(rig, "aa")
    assert await rig.dispatch() == first
    a3, b1, b2, b3 = await tasks_of(rig, "abbb")
    assert await rig.dispatch() == [b1, b2, a3, b3]


async def end(rig: Rig) -> None:
    """Let what is in flight end."""
    await rig.sql(
        "UPDATE tasks SET state = 'SUCCEEDED', ended_at = now() WHERE state = 'DISPATCHED'"
    )


async def turns(rig: Rig, count: int) -> str:
    """Let what is in flight end, and send the next alone, so often; return their users."""
    users = ""
    for _ in range(count):
        await end(rig)
        [sent] = await rig.dispatch(Lane.CPU, window=1)
        users += await rig.value("SELECT user_id FROM tasks WHERE id = %s", sent)
    return users


async def test_user_of_a_long_export_does_not_keep_the_only_slot(rig: Rig) -> None:
    await long_export(rig, user="a")
    assert await turns(rig, 2) == "aa"
    await rig.create("b")
    await long_export(rig, user="c")
    # b's only task is next, then the others take turns.
    assert await turns(rig, 7) == "bcacaca"


async def test_user_who_was_served_before_an_export_came_waits_since_it_came(rig: Rig) -> None:
    await rig.create("a")
    assert await turns(rig, 1) == "a"
    await end(rig)
    await tasks_of(rig, "ab")
    assert await turns(rig, 2) == "ab"


async def test_priority_orders_a_users_own_exports(rig: Rig) -> None:
    [low] = await tasks_of(rig, "a", priority=-5)
    [usual] = await tasks_of(rig, "a")
    [high] = await tasks_of(rig, "a", priority=100)
    assert await rig.dispatch() == [high, usual, low]


async def test_priority_does_not_pass_the_turn_of_others(rig: Rig) -> None:
    [b1] = await tasks_of(rig, "b", priority=-100)
    a1, a2 = await tasks_of(rig, "aa", priority=100)
    assert await rig.dispatch() == [b1, a1, a2]


async def test_task_is_marked_only_when_it_is_stored_for_sure(rig: Rig) -> None:
    cases = [await rig.create() for _ in range(3)]

    async def publish(due: Sequence[TaskRecord]) -> list[str]:
        return [due[1].id]

    assert await rig.tasks.dispatch(Lane.CPU, 10, publish) == 1
    rows = [await case.task_row() for case in cases]
    assert [row["state"] for row in rows] == ["PENDING", "DISPATCHED", "PENDING"]
    assert [row["attempt"] for row in rows] == [0, 1, 0]


async def test_nothing_is_marked_when_publishing_fails(rig: Rig) -> None:
    case = await rig.create()

    async def publish(due: Sequence[TaskRecord]) -> list[str]:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await rig.tasks.dispatch(Lane.CPU, 10, publish)
    row = await case.task_row()
    assert (row["state"], row["attempt"]) == ("PENDING", 0)


async def test_two_replicas_send_each_task_once_and_keep_the_window(rig: Rig, replica: Rig) -> None:
    made = await tasks_of(rig, "abcdefgh")
    sent: list[str] = []

    async def publish(due: Sequence[TaskRecord]) -> list[str]:
        await asyncio.sleep(0.05)
        sent.extend(task.id for task in due)
        return [task.id for task in due]

    await asyncio.gather(
        rig.tasks.dispatch(Lane.CPU, 5, publish), replica.tasks.dispatch(Lane.CPU, 5, publish)
    )
    assert sorted(sent) == sorted(made[:5])


async def test_cancel_waits_for_a_dispatch_and_then_names_the_task(rig: Rig, replica: Rig) -> None:
    case = await rig.create()
    other = Case(replica, case.record, case.task)
    publishing, go_on = asyncio.Event(), asyncio.Event()

    async def publish(due: Sequence[TaskRecord]) -> list[str]:
        publishing.set()
        await go_on.wait()
        return [task.id for task in due]

    dispatch = asyncio.create_task(rig.tasks.dispatch(Lane.CPU, 5, publish))
    await publishing.wait()
    cancel = asyncio.create_task(replica.exports.cancel(other.id, "anna"))
    await asyncio.sleep(0.05)
    go_on.set()
    assert await dispatch == 1
    _, running = await cancel
    assert running == [case.task.id]


async def test_lane_has_room_while_a_task_is_due_and_its_window_is_not_full(rig: Rig) -> None:
    windows = {Lane.CPU: 1, Lane.GPU: 1}
    assert await rig.tasks.lanes_with_room(windows) == []
    await rig.create()
    assert await rig.tasks.lanes_with_room(windows) == [Lane.CPU]
    await rig.create(lane=Lane.GPU)
    assert await rig.tasks.lanes_with_room(windows) == [Lane.CPU, Lane.GPU]
    await rig.dispatch()
    # Nothing is due.
    assert await rig.tasks.lanes_with_room({Lane.CPU: 2, Lane.GPU: 1}) == [Lane.GPU]
    await rig.create()
    # The window is full.
    assert await rig.tasks.lanes_with_room(windows) == [Lane.GPU]
    await rig.sql("UPDATE tasks SET not_before = now() + interval '1 hour'")
    assert await rig.tasks.lanes_with_room({Lane.CPU: 9, Lane.GPU: 9}) == []
