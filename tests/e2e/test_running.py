"""What happens while an export runs: progress, watchers, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from services.common.nats import connect, first_connection
from services.common.subjects import ENCODERS, HELLO
from services.local.cluster import LocalCluster
from tests.e2e.conftest import Leftovers
from tests.e2e.long_export import events_of, start_long
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]


async def test_progress_never_goes_back_and_two_watchers_see_the_same_end(
    client: AsyncClient, clip: MakeClip
) -> None:
    running = await start_long(client, clip)

    async def follow() -> list[pb.Export]:
        return [export async for export in client.watch(running.id)]

    async with asyncio.timeout(120):
        first, second = await asyncio.gather(follow(), follow())
    for seen in (first, second):
        progress = [export.progress for export in seen]
        assert progress == sorted(progress)
        assert len(set(progress)) > 3
        assert seen[-1].state == pb.EXPORT_STATE_COMPLETED
    assert any(export.encode_status.frames_per_second > 0 for export in first)
    assert any(export.HasField("eta") for export in first)
    assert first[-1].output.sha256 == second[-1].output.sha256


async def all_quiet(client: AsyncClient, leftovers: Leftovers) -> None:
    """Wait until FFmpeg has ended and no encoder says that it runs anything."""
    async with asyncio.timeout(10):
        while leftovers.ffmpeg_processes() or any(
            encoder.running_tasks for encoder in await client.encoders()
        ):
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("idle")
async def test_cancel_during_encode_leaves_nothing(
    cluster: LocalCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers
) -> None:
    running = await start_long(client, clip)
    assert leftovers.ffmpeg_processes()
    assert leftovers.scratch_files()
    async with events_of(cluster, running.id) as events:
        cancelled = await client.cancel(running.id)
        assert cancelled.state == pb.EXPORT_STATE_CANCELLED
        await all_quiet(client, leftovers)
    # It was stopped: a run that had ended by itself would have said how.
    assert events == []
    assert leftovers.objects() == leftovers.parts() == leftovers.scratch_files() == []
    # Cancelling again is not an error.
    assert (await client.cancel(running.id)).state == pb.EXPORT_STATE_CANCELLED


@pytest.mark.usefixtures("idle")
async def test_delete_while_running_stops_the_work(
    cluster: LocalCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers
) -> None:
    running = await start_long(client, clip)
    assert leftovers.scratch_files()
    async with events_of(cluster, running.id) as events:
        await client.delete(running.id)
        await all_quiet(client, leftovers)
    assert events == []
    assert leftovers.objects() == leftovers.parts() == leftovers.scratch_files() == []


async def test_encoder_says_who_it_is_as_soon_as_an_api_asks(cluster: LocalCluster) -> None:
    heard = asyncio.Event()

    async def hear(_: Msg) -> None:
        heard.set()

    url = cluster.infrastructure.nats.url
    async with connect(url, name="test", on_closed=lambda: None) as nats:
        await first_connection(nats)
        await nats.subscribe(f"{ENCODERS}.*", cb=hear)
        # It speaks by itself every two seconds: ten times would take it about twenty.
        async with asyncio.timeout(10):
            for _ in range(10):
                heard.clear()
                await nats.publish(HELLO, b"")
                await heard.wait()
