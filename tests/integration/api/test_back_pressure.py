"""What is full or used up gives clear answers, holds up nothing else, and recovers."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import psycopg
import pytest
from api_parts import Parts, running, until
from api_rig import Case, Rig
from api_service import (
    ANNA,
    BEN,
    NOT_SERVING,
    SERVING,
    Api,
    FakeEncoder,
    Surroundings,
    api_running,
    create,
    is_state,
    not_empty,
    refusal,
)
from grpc import StatusCode
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NoStreamResponseError, ServerError, ServiceUnavailableError
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.common.nats import TRANSIENT, PublishMetrics, publish_problem, trouble
from services.common.subjects import EVENTS_STREAM, TASKS_STREAM, Lane
from services.encoder.events import EventPublisher
from videoexport.channel import open_channel
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1 import task_pb2
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub


async def test_connections_that_callers_use_up_are_said_so_and_hold_up_no_loop(
    around: Surroundings, rig: Rig, encoder: FakeEncoder
) -> None:
    blocked = await rig.create()
    video = await encoder.probed_video(rig)
    pool = {"database_pool_size": 4, "database_loop_connections": 2}
    waits = {"database_pool_timeout": 0.3, "database_lock_timeout": 60, "database_timeout": 60}
    async with api_running(around, **pool, **waits) as api:
        await api.until(SERVING)
        cpu = pb.EncoderCapability(family=pb.ENCODER_FAMILY_CPU, available=True, slots=4)
        await encoder.heartbeat(pb.Encoder(id="encoder-1", capabilities=[cpu]))
        export = await create(api, video)
        async with await psycopg.AsyncConnection.connect(around.database) as other:
            await other.execute("SELECT 1 FROM exports WHERE id = %s FOR UPDATE", (blocked.id,))
            cancel = service.CancelExportRequest(export_id=blocked.id)
            waiting = [
                asyncio.ensure_future(api.exports.CancelExport(cancel, metadata=ANNA))
                for _ in range(2)
            ]
            await until(lambda: _all_wait(rig, 2))
            request = service.GetExportRequest(export_id=export.id)
            refused = await refusal(api.exports.GetExport(request, metadata=ANNA))
            assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            assert "busy" in refused.message
            assert refused.retry_seconds == 2
            # Work goes on meanwhile, and so does the service.
            sent = [await encoder.take(Lane.CPU), await encoder.take(Lane.CPU)]
            [task] = [each for each in sent if each.export_id == export.id]
            await encoder.encode(task, b"meanwhile")
            await until(lambda: _is_completed(rig, export.id))
            assert await api.health() == SERVING
            await other.rollback()
        await asyncio.gather(*waiting)
        assert await is_state(api, export.id, pb.EXPORT_STATE_COMPLETED)
        assert await is_state(api, blocked.id, pb.EXPORT_STATE_CANCELLED)


async def test_loops_that_wait_do_not_make_the_service_look_dead(
    around: Surroundings, rig: Rig
) -> None:
    pool = {"database_pool_size": 4, "database_loop_connections": 2}
    waits = {"database_lock_timeout": 60, "database_timeout": 60}
    async with api_running(around, **pool, **waits) as api:
        await api.until(SERVING)
        async with await psycopg.AsyncConnection.connect(around.database) as other:
            await other.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            await until(lambda: _all_wait(rig, 2))
            # Longer than a check may take, and than what follows it.
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await api.until(NOT_SERVING)


async def test_events_leave_dispatch_a_connection_for_each_lane(rig: Rig, nats: Client) -> None:
    replica = Parts(rig, nats, database_pool_size=12, database_loop_connections=len(Lane) + 2)
    cases = [await rig.create(f"user-{number}") for number in range(5)]
    await rig.dispatch()
    for case in cases:
        begun = task_pb2.TaskStarted(delivery_count=1)
        await replica.publish(case.event(f"run_{case.id}", started=begun))
    async with await psycopg.AsyncConnection.connect(rig.url) as other:
        await other.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        async with running(replica.consumer.run):
            await until(lambda: _all_wait(rig, 2))
            await asyncio.sleep(0.5)
            assert not await _all_wait(rig, 3)
            await other.rollback()
            await until(lambda: _all_begun(rig, len(cases)))


async def _all_begun(rig: Rig, count: int) -> bool:
    return bool(await rig.value("SELECT count(*) FROM tasks WHERE state = 'RUNNING'") == count)


async def _all_wait(rig: Rig, count: int) -> bool:
    found = await rig.value(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return bool(found >= count)


async def _is_completed(rig: Rig, export_id: str) -> bool:
    return bool(await rig.value("SELECT state = 'COMPLETED' FROM exports WHERE id = %s", export_id))


# Watchers


async def test_watchers_that_vanish_or_never_read_leave_nothing_and_hold_up_nobody(
    around: Surroundings, rig: Rig
) -> None:
    case, other = await rig.create(), await rig.create("ben")
    count = 300
    limits = {"watch_limit": count + 1, "watches_per_user": count}
    async with api_running(around, **limits) as api:
        await api.until(SERVING)
        own = asyncio.all_tasks()
        request = service.WatchExportRequest(export_id=case.id)
        channels = [open_channel(api.address) for _ in range(6)]
        stubs = [ExportServiceStub(channel) for channel in channels]
        calls = [
            stub.WatchExport(request, metadata=ANNA)
            for stub in stubs
            for _ in range(count // len(stubs))
        ]
        # The last ones never read; that they are there is seen below.
        await asyncio.gather(*(call.read() for call in calls[:-10]))
        await until(lambda: _watch(api, count))
        assert _readers(own) == 1, "one reader for all of them"
        seen: list[pb.Export] = []
        request = service.WatchExportRequest(export_id=other.id)
        reading = asyncio.create_task(_read(api, request, BEN, seen))
        await until(lambda: not_empty(seen))
        refused = await refusal(api.exports.WatchExport(request, metadata=BEN).read())
        assert refused.reason == "TOO_MANY_WATCHES"
        for channel in channels:
            await channel.close()
        await until(lambda: _watch(api, 1))
        assert _readers(own) == 1, "that of the one who is left"
        await rig.exports.cancel(other.id, "ben")
        await asyncio.wait_for(reading, 15)
        assert seen[-1].state == pb.EXPORT_STATE_CANCELLED
        assert _readers(own) == 0


async def test_client_waits_for_room_for_its_watch(around: Surroundings, rig: Rig) -> None:
    case = await rig.create()
    async with (
        api_running(around, watch_limit=1) as api,
        AsyncClient(api.address, user="anna") as client,
    ):
        await api.until(SERVING)
        first, second = client.watch(case.id), client.watch(case.id)
        await anext(first)
        waiting = asyncio.ensure_future(anext(second))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.5)
        await first.aclose()
        assert (await asyncio.wait_for(waiting, 15)).id == case.id
        await second.aclose()


async def _read(api: Api, request: Any, metadata: Any, into: list[pb.Export]) -> None:
    async for answer in api.exports.WatchExport(request, metadata=metadata):
        into.append(answer.export)  # noqa: PERF401 — as it comes


def _readers(before: set[asyncio.Task[Any]]) -> int:
    """Return how many tasks read rows for watchers."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks() - before]
    return names.count("Watches._keep_reading")


async def _watch(api: Api, count: int) -> bool:
    """Return whether so many watch."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://{api.metrics_address}/metrics") as response,
    ):
        return f"videoexport_watch_streams {count}.0\n" in await response.text()


# Streams


async def test_full_stream_of_tasks_is_told_once_and_loses_nothing(
    parts: Parts, rig: Rig, nats: Client
) -> None:
    js = nats.jetstream()
    await shrink(js, TASKS_STREAM, 1)
    await js.publish("videoexport.tasks.gpu.tsk_before", b"")
    case = await rig.create()
    with capture_logs() as logs:
        async with running(parts.dispatcher.run):
            await until(lambda: _held_up(parts, 3))
            row = await case.task_row()
            assert (row["state"], row["attempt"]) == ("PENDING", 0)
            await js.purge_stream(TASKS_STREAM)
            await until(lambda: _is_sent(case))
            await until(lambda: _told(logs, "dispatch goes on"))
    told = [(entry["event"], entry.get("problem")) for entry in logs]
    assert told == [
        ("dispatch is held up", "maximum messages exceeded"),
        ("dispatch goes on", None),
    ]
    assert (await case.task_row())["attempt"] == 1
    assert await parts.messages(TASKS_STREAM) == 1


async def test_tasks_that_find_no_room_beside_others_are_counted_and_told(
    parts: Parts, rig: Rig, nats: Client
) -> None:
    js = nats.jetstream()
    await shrink(js, TASKS_STREAM, 1)
    parts.encoder(cpu=4)
    for _ in range(3):
        await rig.create()
    with capture_logs() as logs:
        async with running(parts.dispatcher.run):
            await until(lambda: _told(logs, "some tasks wait"))
            assert await parts.messages(TASKS_STREAM) == 1
            # Each of the two that are left, and not each round.
            parts.encoder(cpu=4)
            parts.signals.dispatch.set()
            await until(lambda: _told(logs, "dispatch is held up"))
    [entry] = [entry for entry in logs if entry["event"] == "some tasks wait"]
    assert (entry["count"], entry["problem"]) == (2, "maximum messages exceeded")
    held_up = parts.metrics.publishes.held_up.labels("full")._value.get()
    assert held_up >= 4
    assert held_up % 2 == 0


async def test_event_of_an_encoder_waits_for_room_in_a_full_stream(
    parts: Parts, rig: Rig, nats: Client
) -> None:
    js = nats.jetstream()
    await shrink(js, EVENTS_STREAM, 1)
    await js.publish("videoexport.events.tsk_before", b"")
    metrics = PublishMetrics(CollectorRegistry())
    case = await rig.create()
    await rig.dispatch()
    event = case.event("run_1", started=task_pb2.TaskStarted(delivery_count=1))
    with capture_logs() as logs:
        publisher = EventPublisher(nats, "encoder-1", metrics)
        publishing = asyncio.create_task(publisher.publish(event))
        # More often than it is told, so the second try was made.
        while metrics.held_up.labels("full")._value.get() < 2:
            assert not publishing.done()
            await asyncio.sleep(0.02)
        # The API applies what lies there, and so makes room.
        async with running(parts.consumer.run):
            await asyncio.wait_for(publishing, 15)
            await until(lambda: _is_running(case))
    told = [entry for entry in logs if entry["event"] == "event waits for nats"]
    assert [entry["problem"] for entry in told] == ["maximum messages exceeded"]


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ServiceUnavailableError(503, "maximum messages exceeded", 10077), "full"),
        (ServiceUnavailableError(503, "maximum bytes exceeded", 10077), "full"),
        # What a server says whose max_file_store is used up.
        (ServiceUnavailableError(503, "insufficient resources", 10023), "no_space"),
        (ServerError(500, "insufficient storage resources available", 10047), "no_space"),
        (ServiceUnavailableError(503, "no space left on device", 10077), "no_space"),
        (NoStreamResponseError(), "away"),
        (TimeoutError(), "away"),
    ],
)
def test_problem_of_a_message_that_is_not_taken(error: Exception, problem: str) -> None:
    assert publish_problem(error) == problem
    assert isinstance(error, TRANSIENT)
    assert trouble(error)


async def shrink(js: JetStreamContext, stream: str, messages: int) -> None:
    """Let a stream hold no more than so many messages."""
    config = (await js.stream_info(stream)).config
    config.max_msgs = messages
    await js.update_stream(config)


async def _held_up(parts: Parts, times: int) -> bool:
    return bool(parts.metrics.publishes.held_up.labels("full")._value.get() >= times)


async def _is_sent(case: Case) -> bool:
    return bool((await case.task_row())["state"] == "DISPATCHED")


async def _is_running(case: Case) -> bool:
    return bool((await case.task_row())["state"] == "RUNNING")


async def _told(logs: list[Any], event: str) -> bool:
    return any(entry["event"] == event for entry in logs)
