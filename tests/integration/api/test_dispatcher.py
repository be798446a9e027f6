"""From rows to JetStream: what is published, when it is marked, and what an outage does."""

from __future__ import annotations

import asyncio
import time

from api_parts import Parts, overheard, running, until
from api_rig import Case, Rig
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.api.states import TaskState
from services.common.subjects import ENCODERS, HELLO, Lane, task_subject
from services.local.infra import Infrastructure
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

TASKS = "VIDEOEXPORT_TASKS"


async def state(case: Case) -> TaskState:
    return TaskState((await case.task_row())["state"])


async def test_tasks_are_published_fairly_within_the_window_and_marked(
    parts: Parts, rig: Rig, nats: Client
) -> None:
    users = ["a", "a", "a", "a", "b", "c"]
    cases = [await rig.create(user) for user in users]
    a1, a2, a3, a4, b1, c1 = cases
    parts.encoder(cpu=4)  # a window of five
    async with (
        overheard(nats, "videoexport.tasks.cpu.*", task_pb2.Task) as sent,
        running(parts.dispatcher.run),
    ):
        await until(lambda: _has(sent, 5))
        order = (a1, b1, c1, a2, a3)
        assert [task.task_id for task in sent] == [item.task.id for item in order]
        await asyncio.sleep(0.1)
        assert len(sent) == 5
    assert [await state(case) for case in order] == [TaskState.DISPATCHED] * 5
    assert await state(a4) is TaskState.PENDING
    assert await parts.messages(TASKS) == 5
    assert await parts.sample("videoexport_tasks_dispatched_total", lane="cpu") == 5


async def _has(messages: list[task_pb2.Task], count: int) -> bool:
    return len(messages) >= count


async def test_published_task_is_the_stored_one_with_its_attempt(
    parts: Parts, rig: Rig, nats: Client
) -> None:
    case = await rig.create()
    async with running(parts.dispatcher.run):
        await until(lambda: _is(case, TaskState.DISPATCHED))
    message = await parts.js.get_last_msg(TASKS, task_subject(Lane.CPU, case.task.id))
    assert message.data is not None
    task = task_pb2.Task.FromString(message.data)
    expected = task_pb2.Task.FromString(case.task.message)
    expected.attempt = 1
    assert task == expected
    assert message.headers is not None
    assert message.headers["Nats-Msg-Id"] == f"{case.task.id}.1"


async def _is(case: Case, wanted: TaskState) -> bool:
    return await state(case) is wanted


async def test_each_lane_has_its_own_subject(parts: Parts, rig: Rig) -> None:
    cases = [await rig.create(probe=True), await rig.create(), await rig.create(lane=Lane.GPU)]
    async with running(parts.dispatcher.run):
        for case in cases:
            await until(lambda: _is(case, TaskState.DISPATCHED))  # noqa: B023
            await parts.js.get_last_msg(TASKS, task_subject(case.task.lane, case.task.id))


async def test_task_is_published_soon_after_its_creation(parts: Parts, rig: Rig) -> None:
    async with running(parts.dispatcher.run):
        await asyncio.sleep(0.1)
        for _ in range(3):
            case = await rig.create()
            parts.signals.dispatch.set()
            started = time.monotonic()
            await until(lambda: _is(case, TaskState.DISPATCHED))  # noqa: B023
            assert time.monotonic() - started < 0.7
            await rig.sql("UPDATE tasks SET state = 'SUCCEEDED'")


async def test_task_whose_mark_was_lost_is_stored_once(parts: Parts, rig: Rig) -> None:
    case = await rig.create()
    async with running(parts.dispatcher.run):
        await until(lambda: _is(case, TaskState.DISPATCHED))
    # As if the transaction had been lost after JetStream had stored the message.
    await rig.sql("UPDATE tasks SET state = 'PENDING', attempt = 0")
    async with running(parts.dispatcher.run):
        await until(lambda: _is(case, TaskState.DISPATCHED))
    assert await parts.messages(TASKS) == 1
    assert (await case.task_row())["attempt"] == 1


async def test_new_attempt_is_a_new_message(parts: Parts, rig: Rig) -> None:
    case = await rig.create()
    async with running(parts.dispatcher.run):
        await until(lambda: _is(case, TaskState.DISPATCHED))
        await case.started()
        await case.released()
        parts.signals.dispatch.set()
        await until(lambda: _is(case, TaskState.DISPATCHED))
    assert await parts.messages(TASKS) == 2
    assert (await case.task_row())["attempt"] == 2


async def test_two_replicas_publish_each_task_once(
    parts: Parts, rig: Rig, replica: Rig, nats: Client
) -> None:
    # Of encoders that fall silent the slots are no more counted: not here, on a slow machine.
    one, other = (Parts(each, nats, encoder_timeout=60) for each in (rig, replica))
    for each in (one, other):
        each.encoder(cpu=20)
    async with running(one.dispatcher.run, other.dispatcher.run):
        for _ in range(10):
            await rig.create()
            one.signals.dispatch.set()
            other.signals.dispatch.set()
        query = "SELECT count(*) FROM tasks WHERE state = 'DISPATCHED' AND attempt = 1"
        await until(lambda: _counts(rig, query, 10))
    assert await parts.messages(TASKS) == 10


async def _counts(rig: Rig, query: str, wanted: int) -> bool:
    return bool(await rig.value(query) == wanted)


async def test_nothing_is_lost_while_nats_is_away(
    parts: Parts, rig: Rig, infrastructure: Infrastructure
) -> None:
    async with running(parts.dispatcher.run):
        await infrastructure.stop("nats")
        try:
            cases = [await rig.create() for _ in range(2)]
            parts.signals.dispatch.set()
            await asyncio.sleep(0.5)
            assert [await state(case) for case in cases] == [TaskState.PENDING] * 2
            started = time.monotonic()
            _, sent = await rig.exports.cancel(cases[1].id, "anna")
            # No row is locked while NATS is waited for.
            assert time.monotonic() - started < 0.5
            assert sent == []
        finally:
            await infrastructure.start("nats")
        await until(lambda: _is(cases[0], TaskState.DISPATCHED))
    assert await state(cases[1]) is TaskState.CANCELLED
    assert await parts.messages(TASKS) == 1


async def test_dispatch_goes_on_after_postgres_was_away(
    parts: Parts, rig: Rig, infrastructure: Infrastructure
) -> None:
    case = await rig.create()
    await rig.sql("UPDATE tasks SET not_before = now() + interval '1 second'")
    async with running(parts.dispatcher.run):
        await infrastructure.stop("postgres")
        try:
            parts.signals.dispatch.set()
            await asyncio.sleep(0.2)
        finally:
            await infrastructure.start("postgres")
        await until(lambda: _is(case, TaskState.DISPATCHED))


async def test_new_replica_asks_encoders_who_they_are_and_hears_the_answers(
    parts: Parts, nats: Client
) -> None:
    async def answer(_: Msg) -> None:
        encoder = pb.Encoder(id="a", probe_slots=3)
        word = task_pb2.EncoderHeartbeat(encoder=encoder).SerializeToString()
        await nats.publish(f"{ENCODERS}.a", word)

    await nats.subscribe(HELLO, cb=answer)
    await parts.encoders.listen(nats)
    await until(lambda: _has_slots(parts, 3))


async def _has_slots(parts: Parts, count: int) -> bool:
    return parts.encoders.slots(Lane.PROBE) == count
