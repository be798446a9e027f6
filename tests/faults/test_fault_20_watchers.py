"""Fault 20: watchers that never read, and five hundred watchers that are dropped at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import grpc

from faults.cluster import FaultCluster
from faults.relay import Relay
from faults.s3_door import Harm, Operation
from tests.faults.truth import Truth, completed, until
from tests.media.frame_codes import Clip
from videoexport.channel import call_metadata, open_channel
from videoexport.client import AsyncClient
from videoexport.v1.export_service_pb2 import WatchExportRequest
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
DROPPED = 500
DEAF = 10
# Streams of one connection.
PER_CONNECTION = 50
# Well above what the API needs to notice, and below a client's patience.
SOON_S = 15


async def watchers(faulty: FaultCluster) -> float:
    """Return how many watchers the first replica counts."""
    url = f"http://{faulty.cluster.api.metrics_address}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        lines = (await answer.text()).splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith("videoexport_watch_streams ")]
    return float(value)


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


async def test_watchers_that_do_not_read_or_are_dropped_cost_the_others_nothing(
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(Clip(frames=len(FRAMES))))
    reading = faulty.s3_door.harm(Operation.GET, Harm.STALL, times=None, key="videos/")
    created = await client.create_export(video_id)
    port = int(faulty.cluster.api.address.rpartition(":")[2])
    assert await watchers(faulty) == 0
    async with (
        AsyncClient(faulty.cluster.api.address, user=client.user) as near,
        way_to(port) as deaf,
        way_to(port) as dropped,
        watching(deaf, client.user, created.id, DEAF),
    ):
        following = asyncio.create_task(near.wait(created.id))
        # From now on nothing that is said to these is taken from the API.
        deaf.stalled = True
        async with watching(dropped, client.user, created.id, DROPPED):
            assert await watchers(faulty) == DROPPED + DEAF + 1
            dropped.closed = True
            dropped.cut()
            await until(lambda: _count(faulty, DEAF + 1), SOON_S, poll=0.1)
            async with asyncio.timeout(SOON_S):
                assert (await near.get(created.id)).id == created.id
        assert reading.met
        # The run that was held up is tried again as one whose source broke off.
        faulty.s3_door.heal()
        await asyncio.wait_for(following, 60)
        assert deaf.stalled
        await completed(near, created.id, FRAMES, tmp_path)
    await until(lambda: _count(faulty, 0), SOON_S, poll=0.1)
    await truth.nothing_left(client.user)


async def _count(faulty: FaultCluster, wanted: int) -> bool:
    return await watchers(faulty) == wanted
