"""An idle slot: it asks for its consumer seldom, and binds anew when that is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import nats.errors
import pytest
from nats.js.errors import NotFoundError
from prometheus_client import CollectorRegistry

from services.common.cancellation import cancel_until_done
from services.common.subjects import Lane
from services.encoder import lanes
from services.encoder.board import TaskBoard
from services.encoder.lanes import LaneConsumer
from services.encoder.metrics import EncoderMetrics


class IdleLane:
    """JetStream with nothing to do; it is its own subscription."""

    def __init__(self) -> None:
        self.bound = self.pulls = self.questions = self.pending_msgs = 0
        self.is_gone = False

    async def pull_subscribe_bind(self, **_: Any) -> IdleLane:
        self.bound += 1
        return self

    async def fetch(self, _: int, timeout: float) -> Any:
        self.pulls += 1
        await asyncio.sleep(timeout)
        raise nats.errors.TimeoutError

    async def consumer_info(self) -> None:
        self.questions += 1
        if self.is_gone:
            raise NotFoundError

    async def unsubscribe(self) -> None:
        """Nothing is held."""


async def nothing(*_: Any) -> None:
    pytest.fail("there was nothing to do")


async def idle(js: IdleLane, seconds: float) -> None:
    board = TaskBoard({Lane.CPU: 1}, EncoderMetrics(CollectorRegistry()))
    consumer = LaneConsumer(Lane.CPU, js, board, nothing)  # type: ignore[arg-type]
    running = asyncio.create_task(consumer.run())
    await asyncio.sleep(seconds)
    await cancel_until_done([running])


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "FETCH_SECONDS", 0.01)
    monkeypatch.setattr(lanes, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(lanes, "PAUSE_SECONDS", 0.01)


async def test_idle_slot_asks_for_its_consumer_seldom() -> None:
    js = IdleLane()
    await idle(js, 0.5)
    assert js.pulls > 10
    assert js.questions == 2


async def test_slot_that_receives_nothing_binds_anew_after_it_has_asked() -> None:
    js = IdleLane()
    await idle(js, 0.5)
    assert js.bound == 1 + js.questions


async def test_slot_does_not_leave_a_message_that_came_late() -> None:
    js = IdleLane()
    js.pending_msgs = 1
    await idle(js, 0.5)
    assert js.questions
    assert js.bound == 1


async def test_slot_whose_consumer_is_gone_binds_anew() -> None:
    js = IdleLane()
    js.is_gone = True
    await idle(js, 0.5)
    assert js.bound > 1


async def test_slot_takes_nothing_while_the_disk_is_full_and_goes_on_when_there_is_room() -> None:
    js, full = IdleLane(), ["full"]
    metrics = EncoderMetrics(CollectorRegistry())
    board = TaskBoard({Lane.CPU: 1}, metrics, lambda: full[0] if full else None)
    consumer = LaneConsumer(Lane.CPU, js, board, nothing)  # type: ignore[arg-type]
    running = asyncio.create_task(consumer.run())
    await asyncio.sleep(0.2)
    assert js.pulls == 0
    full.clear()
    async with asyncio.timeout(10):
        while not js.pulls:
            await asyncio.sleep(0.01)
    await cancel_until_done([running])


class BusyLane(IdleLane):
    """JetStream that always has a message."""

    async def fetch(self, _: int, timeout: float) -> Any:
        self.pulls += 1
        await asyncio.sleep(timeout)
        return [object()]


async def test_slot_outlives_work_that_ends_as_cancelled_by_nobody() -> None:
    js, handled = BusyLane(), asyncio.Queue[object]()

    async def handle(message: object, _: Lane) -> None:
        handled.put_nowait(message)
        raise asyncio.CancelledError

    board = TaskBoard({Lane.CPU: 1}, EncoderMetrics(CollectorRegistry()))
    consumer = LaneConsumer(Lane.CPU, js, board, handle)  # type: ignore[arg-type]
    running = asyncio.create_task(consumer.run())
    async with asyncio.timeout(10):
        for _ in range(3):
            await handled.get()
    await cancel_until_done([running])
    assert running.cancelled()
