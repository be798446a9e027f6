"""Fault 20: watchers that never read, and five hundred watchers that are dropped at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from faults.cluster import FaultCluster
from faults.relay import Relay
from faults.s3_door import Harm, Operation
from services.common.subjects import UPDATES
from services.local.services import ServicePart
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import watch_streams
from tests.faults.truth import Truth, completed, until
from tests.media.frame_codes import Clip
from videoexport.channel import call_metadata, open_channel
from videoexport.client import AsyncClient
from videoexport.v1 import task_pb2
from videoexport.v1.export_service_pb2 import WatchExportRequest
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
DROPPED = 500
DEAF = 50
# Of an export whose state takes as much room as one may.
SEGMENTS = 1000
# The API reads rows ten times a second at most.
FILLING, CHANGES = 10, 40
# What it may grow by while it says several times as much to who does not read: its buffers for
# the connections are full before, and its allocator gives and takes a few MiB.
GROWTH_BYTES = 12 * 2**20
# Streams of one connection.
PER_CONNECTION = 50
# Well above what the API needs to notice, and below a client's patience.
SOON_S = 15


@asynccontextmanager
async def watching(relay: Relay, user: str, export_id: str, count: int) -> AsyncIterator[None]:
    """Open so many streams by way of a relay; each has its snapshot."""
    async with AsyncExitStack() as stack:
        calls = []
        for number in range(count):
            if number % PER_CONNECTION == 0:
                # Channels to one address share a connection unless they differ.
                channel = await stack.enter_async_context(open_channel(f"127.0.0.1:{relay.port}"))
                stub = ExportServiceStub(channel)
            request = WatchExportRequest(export_id=export_id)
            calls.append(stub.WatchExport(request, metadata=call_metadata(user)))
        for call in calls:
            assert await call.read() is not grpc.aio.EOF
        yield
        for call in calls:
            call.cancel()


@asynccontextmanager
async def way_to(port: int) -> AsyncIterator[Relay]:
    """Relay to a port while the block runs."""
    relay = Relay(port)
    await relay.serve()
    try:
        yield relay
    finally:
        await relay.close()


@dataclass
class Wide:
    """An export whose every state is a large message, and which is told of as often as wished."""

    truth: Truth
    export_id: str
    told: int = 0

    async def changes(self, near: AsyncClient, times: int) -> None:
        """Change it so often, each time once a watcher who reads has seen the last change."""
        watch = near.watch(self.export_id)
        async with asyncio.timeout(60), aclosing(watch):
            for _ in range(times):
                self.told += 1
                await self.truth.rows(
                    "UPDATE exports SET progress = %s WHERE id = %s",
                    *(self.told / 10, self.export_id),
                )
                changed = task_pb2.ExportChanged(export_id=self.export_id)
                subject = f"{UPDATES}.{self.export_id}"
                await self.truth.nats.publish(subject, changed.SerializeToString())
                async for seen in watch:
                    if seen.progress >= self.told / 10:
                        break


async def test_watchers_that_do_not_read_or_are_dropped_cost_the_others_nothing(
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(Clip(frames=len(FRAMES))))
    await client.plan(video_id, settings=SMALL)
    reading = faulty.s3_door.harm(Operation.GET, Harm.STALL, times=None, key="videos/")
    created = await client.create_export(video_id, settings=SMALL)
    wide = await client.create_export(video_id, [(0, 0.04)] * SEGMENTS, settings=SMALL)
    api = faulty.cluster.api
    port = int(api.address.rpartition(":")[2])
    assert await watch_streams(api) == 0
    async with (
        AsyncClient(api.address, user=client.user) as near,
        way_to(port) as deaf,
        way_to(port) as dropped,
        watching(deaf, client.user, wide.id, DEAF),
    ):
        following = asyncio.create_task(near.wait(created.id))
        # From now on nothing that is said to these is taken from the API.
        deaf.stalled = True
        telling = Wide(truth, wide.id)
        # Until what lies between has all that it takes.
        await telling.changes(near, FILLING)
        process = psutil.Process(faulty.cluster.pids[api.name])
        before = process.memory_info().rss
        await telling.changes(near, CHANGES)
        grown = process.memory_info().rss - before
        said = CHANGES * DEAF * wide.ByteSize()
        print(f"{said / 2**20:.0f} MiB said to who does not read, grown by {grown / 2**20:.1f} MiB")
        assert said > 3 * GROWTH_BYTES
        assert grown < GROWTH_BYTES
        async with watching(dropped, client.user, created.id, DROPPED):
            assert await watch_streams(api) == DROPPED + DEAF + 1
            dropped.closed = True
            dropped.cut()
            await until(lambda: _count(api, DEAF + 1), SOON_S, poll=0.1)
            async with asyncio.timeout(SOON_S):
                assert (await near.get(created.id)).id == created.id
        assert reading.met
        await client.delete(wide.id)
        # The run that was held up is tried again as one whose source broke off.
        faulty.s3_door.heal()
        await asyncio.wait_for(following, 60)
        assert deaf.stalled
        await completed(near, created.id, FRAMES, tmp_path)
    await until(lambda: _count(api, 0), SOON_S, poll=0.1)
    await truth.nothing_left(client.user)


async def _count(api: ServicePart, wanted: int) -> bool:
    return await watch_streams(api) == wanted
