"""What every service does with NATS: topology, durable publishing, staying connected."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client

from services.common.nats import (
    TRANSIENT,
    connect,
    ensure_topology,
    first_connection,
    publish_durably,
    require_connection,
)
from services.common.subjects import (
    EVENTS_STREAM,
    TASKS_STREAM,
    Lane,
    events_subject,
    exports_subject,
    task_subject,
)
from services.local.infra import Infrastructure
from videoexport.v1 import task_pb2

TASK = task_pb2.Task(task_id="tsk_1")


async def test_streams_and_consumers_are_what_the_design_says(nats: Client) -> None:
    js = nats.jetstream()
    tasks = (await js.stream_info(TASKS_STREAM)).config
    assert (tasks.retention, tasks.discard) == ("workqueue", "new")
    assert tasks.subjects == ["videoexport.tasks.*.*"]
    assert tasks.duplicate_window == 120
    events = (await js.stream_info(EVENTS_STREAM)).config
    assert (events.retention, events.discard) == ("workqueue", "new")
    exports = (await js.stream_info("VIDEOEXPORT_EXPORTS")).config
    assert exports.retention == "limits"
    for lane in Lane:
        config = (await js.consumer_info(TASKS_STREAM, lane)).config
        assert (config.ack_policy, config.ack_wait) == ("explicit", 60)
        # The API decides about retries; JetStream only brings what a lost worker had.
        assert config.max_deliver == -1
        assert not config.backoff


async def test_topology_is_brought_up_to_date(nats: Client) -> None:
    js = nats.jetstream()
    await publish_durably(js, task_subject(Lane.CPU, "tsk_1"), TASK, message_id="1")
    await ensure_topology(js, replicas=1, ack_wait=7)
    assert (await js.consumer_info(TASKS_STREAM, Lane.CPU)).config.ack_wait == 7
    assert (await js.stream_info(TASKS_STREAM)).state.messages == 1


async def test_topology_that_another_replica_has_set_is_left_but_completed(nats: Client) -> None:
    js = nats.jetstream()
    await ensure_topology(js, replicas=1, ack_wait=7)
    await js.delete_consumer(TASKS_STREAM, Lane.GPU)
    await js.delete_stream(EVENTS_STREAM)
    await ensure_topology(js, replicas=1, ack_wait=60, update=False)
    waits = [(await js.consumer_info(TASKS_STREAM, lane)).config.ack_wait for lane in Lane]
    assert waits == [60 if lane is Lane.GPU else 7 for lane in Lane]
    await js.consumer_info(EVENTS_STREAM, "api")


async def test_replicas_may_make_the_topology_at_the_same_time(nats: Client) -> None:
    js = nats.jetstream()
    for stream in (TASKS_STREAM, EVENTS_STREAM):
        await js.delete_stream(stream)
    await asyncio.gather(*(ensure_topology(js, replicas=1, ack_wait=60) for _ in range(5)))
    assert (await js.stream_info(TASKS_STREAM)).state.consumer_count == len(Lane)


async def test_message_published_again_is_stored_once(nats: Client) -> None:
    js = nats.jetstream()
    for _ in range(3):
        await publish_durably(js, task_subject(Lane.CPU, "tsk_1"), TASK, message_id="tsk_1.1")
    await publish_durably(js, task_subject(Lane.CPU, "tsk_1"), TASK, message_id="tsk_1.2")
    assert (await js.stream_info(TASKS_STREAM)).state.messages == 2


async def test_publishing_without_a_stream_is_a_passing_trouble(nats: Client) -> None:
    js = nats.jetstream()
    await js.delete_stream(TASKS_STREAM)
    with pytest.raises(TRANSIENT):
        await publish_durably(js, task_subject(Lane.CPU, "tsk_1"), TASK, message_id="1")


async def test_subjects_reach_their_streams(nats: Client) -> None:
    js = nats.jetstream()
    for subject, stream in [
        (task_subject(Lane.GPU, "tsk_1"), TASKS_STREAM),
        (events_subject("tsk_1"), EVENTS_STREAM),
        (exports_subject("exp_1", "COMPLETED"), "VIDEOEXPORT_EXPORTS"),
    ]:
        await publish_durably(js, subject, TASK, message_id=subject)
        assert (await js.get_last_msg(stream, subject)).subject == subject


async def test_connection_comes_back_and_is_required_meanwhile(
    infrastructure: Infrastructure,
) -> None:
    closed = asyncio.Event()
    async with connect(infrastructure.nats.url, name="t", on_closed=closed.set) as client:
        async with asyncio.timeout(10):
            await first_connection(client)
        require_connection(client)
        await infrastructure.stop("nats")
        try:
            async with asyncio.timeout(5):
                while client.is_connected:
                    await asyncio.sleep(0.02)
            with pytest.raises(TRANSIENT):
                require_connection(client)
        finally:
            await infrastructure.start("nats")
        async with asyncio.timeout(10):
            await first_connection(client)
        await client.flush()
        assert not closed.is_set()
    # Closing it ourselves is no trouble.
    assert not closed.is_set()


async def test_connection_that_never_came_is_given_up_at_the_end() -> None:
    async with asyncio.timeout(5):
        async with connect("nats://127.0.0.1:1", name="t", on_closed=pytest.fail) as client:
            await asyncio.sleep(0.1)
            assert not client.is_connected
