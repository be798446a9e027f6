"""Fault 8: the leader of a stream is killed, all servers lose their power, all lose their data."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from faults.cluster import FaultCluster
from services.common.subjects import TASKS_STREAM
from tests.faults.truth import Truth, all_completed
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
BEFORE, AFTER = 4, 2

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


async def wipe(faulty: FaultCluster, _truth: Truth) -> None:
    """Take everything from all servers."""
    servers = faulty.cluster.infrastructure.nats_servers
    await asyncio.gather(*(faulty.cluster.stop(server.name) for server in servers))
    for server in servers:
        await asyncio.to_thread(shutil.rmtree, server.directory / "jetstream")
    await asyncio.gather(*(faulty.cluster.start(server.name) for server in servers))


@pytest.mark.parametrize("broken", [kill_leader, power_cycle, wipe])
async def test_exports_end_right_when_nats(
    faulty: FaultCluster,
    client: AsyncClient,
    truth: Truth,
    clip: MakeClip,
    tmp_path: Path,
    broken: Break,
) -> None:
    video_id = await client.upload(clip(Clip(frames=len(FRAMES))))
    # Known from now on, so that each further export is one task.
    first = await client.create_export(video_id)
    await client.wait(first.id)

    created = [await client.create_export(video_id, copies(n)) for n in range(BEFORE)]
    began = time.monotonic()
    await broken(faulty, truth)
    since = await truth.value("SELECT now()")
    taken = time.monotonic() - began
    created += [await client.create_export(video_id, copies(n)) for n in range(AFTER)]
    accepted = time.monotonic() - began

    await all_completed(client, [export.id for export in created], list(FRAMES), tmp_path)
    await truth.nothing_left(client.user)
    dispatched = await truth.value(
        "SELECT min(dispatched_at) FROM tasks WHERE export_id = ANY(%s)",
        [export.id for export in created[BEFORE:]],
    )
    print(
        f"{broken.__name__}: took {taken:.2f} s, {AFTER} exports accepted after {accepted:.2f} s,"
        f" dispatch went on after {seconds(since, dispatched):.2f} s"
    )


def copies(number: int) -> Sequence[tuple[float, float]]:
    """Return segments that are all of the clip, and those of no other number."""
    cut = (number + 1) / 25
    return [(0.0, cut), (cut, len(FRAMES) / 25)]


def seconds(since: datetime, until: datetime) -> float:
    """Return how long it was from one time to another."""
    return (until - since).total_seconds()
