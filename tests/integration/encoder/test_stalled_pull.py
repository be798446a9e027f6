"""A pull that stalls without an error: the slot finds out by itself."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry

from services.common.cancellation import cancel_until_done
from services.common.nats import connect, ensure_topology, first_connection, publish_durably
from services.common.subjects import TASKS_STREAM, Lane, task_subject
from services.encoder import lanes
from services.encoder.board import TaskBoard
from services.encoder.lanes import LaneConsumer
from services.encoder.metrics import EncoderMetrics
from services.local.infra import Infrastructure
from videoexport.v1 import task_pb2

TASK = task_pb2.Task(task_id="tsk_stalled")


async def stall(client: Client) -> int:
    """Have the server forget where pulls are answered to; return how many that were."""
    # What takes its messages one by one, rather than by a callback, is a pull.
    pulls = [number for number, one in client._subs.items() if one._cb is None]
    for number in pulls:
        await client._send_unsubscribe(number)
    await client.flush()
    return len(pulls)


async def test_slot_whose_pull_stalls_goes_on(
    infrastructure: Infrastructure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "FETCH_SECONDS", 0.3)
    monkeypatch.setattr(lanes, "CHECK_SECONDS", 1.0)
    taken: asyncio.Queue[Msg] = asyncio.Queue()

    async def take(message: Msg, _: Lane) -> None:
        await message.ack_sync(timeout=2)
        taken.put_nowait(message)

    async with connect(infrastructure.nats.url, name="t", on_closed=lambda: None) as client:
        async with asyncio.timeout(10):
            await first_connection(client)
        js = client.jetstream(timeout=2)
        await ensure_topology(js, replicas=1, ack_wait=60)
        await js.purge_stream(TASKS_STREAM)
        board = TaskBoard({Lane.CPU: 1}, EncoderMetrics(CollectorRegistry()))
        running = asyncio.create_task(LaneConsumer(Lane.CPU, js, board, take).run())
        try:
            for message_id in ("before", "after"):
                await publish_durably(
                    js, task_subject(Lane.CPU, "tsk_stalled"), TASK, message_id=message_id
                )
                async with asyncio.timeout(10):
                    await taken.get()
                assert await stall(client) == 1
        finally:
            await cancel_until_done([running])
