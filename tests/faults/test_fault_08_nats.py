"""Fault 8: the leader of a stream is killed, all servers lose their power, all lose their data."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import nats.errors
import pytest
from nats.js.errors import NotFoundError

from faults.cluster import FaultCluster
from services.common.subjects import EVENTS_STREAM, TASKS_STREAM
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import shut
from tests.faults.truth import Truth, all_completed, until
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
BEFORE, AFTER = 4, 2
# Of new work after the fault: several times what an election takes, and reconnecting.
SOON_S = 30.0

Break = Callable[[FaultCluster, Truth], Awaitable[None]]


async def kill_leader(faulty: FaultCluster, truth: Truth) -> None:
    """Kill the server that decides what the stream of tasks holds."""
    cluster = (await truth.js.stream_info(TASKS_STREAM)).cluster
    assert cluster is not None
    assert cluster.leader is not None
    faulty.cluster.kill(cluster.leader.removeprefix("videoexport-"))


async def power_cycle(faulty: FaultCluster, _truth: Truth) -> None:
    """Kill all servers at once; they start again by themselves."""
    for server in faulty.cluster.infrastructure.nats_servers:
        faulty.cluster.kill(server.name)


@pytest.mark.parametrize("broken", [kill_leader, power_cycle])
async def test_exports_end_right_when_nats(
    faulty: FaultCluster,
    client: AsyncClient,
    truth: Truth,
    clip: MakeClip,
    tmp_path: Path,
    broken: Break,
) -> None:
    video_id = await known(client, clip)
    created = [await order(client, video_id, n) for n in range(BEFORE)]
    began = time.monotonic()
    await broken(faulty, truth)
    since = await truth.value("SELECT now()")
    created += [await order(client, video_id, BEFORE + n) for n in range(AFTER)]
    accepted = time.monotonic() - began
    await all_completed(client, created, list(FRAMES), tmp_path)
    await truth.nothing_left(client.user)
    await goes_on_soon(truth, since, created[BEFORE:])
    assert accepted < SOON_S


async def test_exports_end_right_when_nats_loses_all_that_it_holds(
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await known(client, clip)
    encoders = [encoder.name for encoder in faulty.cluster.encoders]
    for encoder in encoders[1:]:
        faulty.pause(encoder)
    created = [await order(client, video_id, n) for n in range(BEFORE)]

    # Tasks are held while no encoder takes them, events while no API hears of them.
    await until(partial(truth.messages, TASKS_STREAM))
    shut(faulty.network.select(lambda part, server: "api" in part and "nats" in server))
    await until(partial(truth.messages, EVENTS_STREAM))
    faulty.pause(encoders[0])
    assert await truth.messages(TASKS_STREAM) > 0
    assert await truth.messages(EVENTS_STREAM) > 0

    await wipe(faulty)
    for stream in (TASKS_STREAM, EVENTS_STREAM):
        await until(partial(is_gone, truth, stream))
    created += [await order(client, video_id, BEFORE + n) for n in range(AFTER)]
    since = await truth.value("SELECT now()")
    faulty.heal()
    await all_completed(client, created, list(FRAMES), tmp_path)
    await truth.nothing_left(client.user)
    await goes_on_soon(truth, since, created[BEFORE:])


async def wipe(faulty: FaultCluster) -> None:
    """Take everything from all servers."""
    servers = faulty.cluster.infrastructure.nats_servers
    await asyncio.gather(*(faulty.cluster.stop(server.name) for server in servers))
    for server in servers:
        await asyncio.to_thread(shutil.rmtree, server.directory / "jetstream")
    await asyncio.gather(*(faulty.cluster.start(server.name) for server in servers))


async def is_gone(truth: Truth, stream: str) -> bool:
    """Return whether there is no such stream, once the servers know what there is."""
    try:
        await truth.messages(stream)
    except NotFoundError:
        return True
    except nats.errors.Error:
        return False
    raise AssertionError(f"{stream} is still there")


async def known(client: AsyncClient, clip: MakeClip) -> str:
    """Upload a clip and have it examined, so that each export of it is one task."""
    video_id = await client.upload(clip(Clip(frames=len(FRAMES))))
    await client.plan(video_id, settings=SMALL)
    return video_id


async def order(client: AsyncClient, video_id: str, number: int) -> str:
    """Order all of a clip, cut as no other number is; return the export's id."""
    cut = (number + 1) / 25
    segments = [(0.0, cut), (cut, len(FRAMES) / 25)]
    return (await client.create_export(video_id, segments, settings=SMALL)).id


async def goes_on_soon(truth: Truth, since: datetime, export_ids: list[str]) -> None:
    """Check that exports which came after a fault were sent out soon after it."""
    query = "SELECT min(dispatched_at) FROM tasks WHERE export_id = ANY(%s)"
    taken = (await truth.value(query, export_ids) - since).total_seconds()
    print(f"dispatch went on after {taken:.2f} s")
    assert taken < SOON_S
