"""NATS's client may drop a cancellation; nothing here goes on, or waits, because of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import nats.errors
import pytest
from prometheus_client import CollectorRegistry

from services.common import cancellation
from services.common.subjects import MAX_DELIVERIES, Lane
from services.encoder.board import TaskBoard
from services.encoder.events import EventPublisher
from services.encoder.metrics import EncoderMetrics
from services.encoder.runner import TaskRunner
from videoexport.v1 import task_pb2


async def drop_once(dropped: list[str]) -> None:
    """Wait, and lose the first cancellation, as a wait does whose answer comes just then."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        if dropped:
            raise
        dropped.append("cancellation")


class Nats:
    """A client that is connected; what it publishes is stored at once."""

    is_connected = True

    def jetstream(self) -> Nats:
        return self

    async def publish(self, *_: Any, **__: Any) -> None:
        await asyncio.sleep(0.05)


class Message:
    """A task that was delivered too often: it is given up, and needs no encode for that."""

    data = task_pb2.Task(task_id="tsk_1", attempt=1).SerializeToString()
    metadata = SimpleNamespace(num_delivered=MAX_DELIVERIES + 1)

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.acknowledged = False

    async def in_progress(self) -> None:
        await drop_once(self.dropped)

    async def ack_sync(self, **_: Any) -> None:
        self.acknowledged = True


@pytest.fixture
def metrics() -> EncoderMetrics:
    return EncoderMetrics(CollectorRegistry())


async def test_run_ends_though_its_signs_of_life_go_on_once_more(
    metrics: EncoderMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "PATIENCE", 0.05)
    events = EventPublisher(Nats(), "enc", metrics.publishes)  # type: ignore[arg-type]
    board = TaskBoard({Lane.CPU: 1}, metrics)
    runner = TaskRunner(board, events, Mock(), metrics, heartbeat_interval=0)
    message = Message()
    async with asyncio.timeout(5):
        await runner.handle(message, Lane.CPU)  # type: ignore[arg-type]
    assert message.dropped
    assert message.acknowledged
    assert board.takes(Lane.CPU)


async def test_event_that_cannot_be_stored_is_not_tried_again_after_a_cancellation(
    metrics: EncoderMetrics,
) -> None:
    dropped: list[str] = []

    class Away(Nats):
        tries = 0

        async def publish(self, *_: Any, **__: Any) -> None:
            Away.tries += 1
            await drop_once(dropped)
            raise nats.errors.NoRespondersError

    events = EventPublisher(Away(), "enc", metrics.publishes)  # type: ignore[arg-type]
    publishing = asyncio.create_task(
        events.publish(task_pb2.TaskEvent(started=task_pb2.TaskStarted()))
    )
    await asyncio.sleep(0.01)
    publishing.cancel()
    await asyncio.wait([publishing], timeout=1)
    assert dropped
    assert publishing.cancelled()
    assert Away.tries == 1
