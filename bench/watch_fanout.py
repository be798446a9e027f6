"""500 watchers of one running export, beside a bare grpc.aio stream to 500.

The export is real and runs; then its encoder is paused, and its last word on NATS is
said again with a growing `frames_done`: twice a second, as encoders do, for the delay
until the last watcher knows, and far more often for the most that is delivered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import nats
import psutil
from nats.aio.client import Client

from bench import sources
from bench.echo import INTERVAL_KEY
from bench.load import Open, Stream, Watchers, echo_server, percentile
from bench.report import Figure, say
from bench.stage import SETTINGS, USER, Stage
from services.common.subjects import PROGRESS
from services.encoder.events import PROGRESS_INTERVAL
from videoexport.channel import call_metadata, open_channel
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1 import task_pb2
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub

if TYPE_CHECKING:
    from videoexport.v1.export_service_pb2_grpc import ExportServiceAsyncStub

WATCHERS = 500
CHANGES = 40
# As often as it makes sense to say; more than a watcher gets to see.
FLOOD_INTERVAL_S = 0.02
FLOOD_S = 5.0
START_TIMEOUT_S = 60
# For the last change to arrive.
SETTLE_S = 2.0


async def measure(stage: Stage) -> list[Figure]:
    """Return messages a second and delays of both, and what the watchers cost the API."""
    async with (
        _nats(stage.cluster.infrastructure.nats.url) as client,
        _running_export(stage) as export,
    ):
        word = await _word(client, export.id)
        api = psutil.Process(stage.cluster.pids["api"])
        idle = api.memory_info().rss
        with stage.encoder_paused():
            async with open_channel(stage.cluster.api.address) as channel:
                opener = _opener(ExportServiceStub(channel), export.id)
                async with Watchers().watch(opener, WATCHERS) as watchers:
                    changes = await _say_slowly(client, word)
                    grown = api.memory_info().rss - idle
                    flood = asyncio.create_task(_say_fast(client, word))
                    rate = await watchers.rate(FLOOD_S)
                    flood.cancel()
        delays = watchers.delays(changes)
        say(f"watch_fanout: {rate:.0f} messages/s, p50 {percentile(delays, 0.5):.3f} s")
        sample = await stage.client.get(export.id)
    echo_rate, echo_delays = await _echo(stage, sample)
    return [
        Figure("watch_fanout", rate, "messages/s"),
        Figure("watch_fanout.echo", echo_rate, "messages/s"),
        Figure("watch_fanout.p50", percentile(delays, 0.5), "s"),
        Figure("watch_fanout.p99", percentile(delays, 0.99), "s"),
        Figure("watch_fanout.echo_p50", percentile(echo_delays, 0.5), "s"),
        Figure("watch_fanout.echo_p99", percentile(echo_delays, 0.99), "s"),
        Figure("watch_fanout.memory_growth", grown / 1e6, "MB"),
    ]


@asynccontextmanager
async def _running_export(stage: Stage) -> AsyncIterator[pb.Export]:
    """Start an export that takes a while; remove it in the end."""
    video_id = await stage.client.upload(await sources.minute(stage.folder))
    export = await stage.client.create_export(video_id, settings=SETTINGS)
    try:
        yield export
    finally:
        await stage.client.delete(export.id)


@asynccontextmanager
async def _nats(url: str) -> AsyncIterator[Client]:
    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()


async def _word(client: Client, export_id: str) -> task_pb2.TaskProgress:
    """Return the first word of the encoder that frames are being made."""
    subscription = await client.subscribe(f"{PROGRESS}.{export_id}")
    async with asyncio.timeout(START_TIMEOUT_S):
        async for message in subscription.messages:
            word = task_pb2.TaskProgress.FromString(message.data)
            if word.task.frames_done:
                break
    await subscription.unsubscribe()
    return word


async def _say_slowly(client: Client, word: task_pb2.TaskProgress) -> dict[int, float]:
    """Report progress as an encoder does; return when which number was said."""
    changes = {}
    for _ in range(CHANGES):
        word.task.frames_done += 1
        changes[word.task.frames_done] = time.monotonic()
        await _say(client, word)
        await asyncio.sleep(PROGRESS_INTERVAL)
    await asyncio.sleep(SETTLE_S)
    return changes


async def _say_fast(client: Client, word: task_pb2.TaskProgress) -> None:
    while True:
        word.task.frames_done += 1
        await _say(client, word)
        await asyncio.sleep(FLOOD_INTERVAL_S)


async def _say(client: Client, word: task_pb2.TaskProgress) -> None:
    await client.publish(f"{PROGRESS}.{word.task.export_id}", word.SerializeToString())
    await client.flush()


def _opener(stub: ExportServiceAsyncStub, export_id: str, interval: float = 0.0) -> Open:
    metadata = call_metadata(USER)
    metadata.add(INTERVAL_KEY, str(interval))

    def open_stream() -> Stream:
        return stub.WatchExport(service.WatchExportRequest(export_id=export_id), metadata=metadata)

    return open_stream


async def _echo(stage: Stage, export: pb.Export) -> tuple[float, list[float]]:
    """Return messages a second and sorted delays of the bare server."""
    async with (
        echo_server(export, stage.outputs) as address,
        open_channel(address) as channel,
    ):
        stub: ExportServiceAsyncStub = ExportServiceStub(channel)
        async with Watchers().watch(
            _opener(stub, export.id, PROGRESS_INTERVAL), WATCHERS
        ) as watchers:
            first = int(time.monotonic() / PROGRESS_INTERVAL) + 1
            await asyncio.sleep(CHANGES * PROGRESS_INTERVAL + SETTLE_S)
        changes = {tick: tick * PROGRESS_INTERVAL for tick in range(first, first + CHANGES)}
        delays = watchers.delays(changes)
        async with Watchers().watch(_opener(stub, export.id), WATCHERS) as watchers:
            rate = await watchers.rate(FLOOD_S)
    say(f"watch_fanout: echo {rate:.0f} messages/s, p50 {percentile(delays, 0.5):.3f} s")
    return rate, delays
