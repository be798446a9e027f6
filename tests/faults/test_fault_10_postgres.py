"""Fault 10: Postgres is restarted amid transactions; away, or frozen, for longer than any wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from faults.cluster import FaultCluster, resume
from tests.e2e.small_exports import SMALL
from tests.faults.truth import Truth, all_completed, completed, until
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
SHORT = Clip(frames=len(FRAMES))
# Whoever waits for a row or a lock is inside a transaction.
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
# Longer than the API waits for Postgres or a caller for the API, than an encoder or an event
# may be silent, and than the pauses between any tries: nothing more happens within 30 s.
AWAY_S = 15.0
# Time to notice a commit before the API hears of it.
SLOW_S = 0.1


async def is_back(truth: Truth) -> bool:
    """Return whether Postgres answers."""
    try:
        return bool(await truth.value("SELECT 1"))
    except psycopg.OperationalError:
        return False


async def test_restart_amid_transactions_loses_and_doubles_nothing(
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    running = await client.create_export(video_id, settings=SMALL)
    holder = await truth.postgres()
    # A caller's transaction waits for another one of the same user, ...
    await holder.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [client.user])
    # ... and that of an event for one at its export.
    await holder.execute("SELECT 1 FROM exports WHERE id = %s FOR UPDATE", [running.id])
    ordering = asyncio.create_task(
        client.create_export(video_id, request_id="once", settings=SMALL)
    )

    async def both_wait() -> bool:
        return bool(await truth.value(WAITING) >= 2)

    await until(both_wait)
    faulty.cluster.kill("postgres")
    began = time.monotonic()
    await until(lambda: is_back(truth))
    back = time.monotonic()
    await holder.close()
    ordered = await ordering
    answered = time.monotonic()

    await all_completed(client, [running.id, ordered.id], list(FRAMES), tmp_path)
    assert {export.id async for export in client.list()} == {running.id, ordered.id}
    await truth.nothing_left(client.user)
    print(
        f"postgres was back after {back - began:.2f} s,"
        f" the call that it interrupted answered {answered - back:.2f} s later"
    )


async def test_commit_whose_answer_is_lost_is_found_by_the_next_try(
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    ways = faulty.network.select(lambda _, server: server == "postgres")
    for relay in ways:
        relay.delay = SLOW_S
    ordering = asyncio.create_task(client.create_export(video_id, settings=SMALL))

    async def is_committed() -> bool:
        return bool(
            await truth.value("SELECT count(*) FROM exports WHERE user_id = %s", client.user)
        )

    await until(is_committed)
    assert not ordering.done()
    for relay in ways:
        relay.heal()
        relay.cut()
    ordered = await ordering
    await completed(client, ordered.id, FRAMES, tmp_path)
    assert [export.id async for export in client.list()] == [ordered.id]
    await truth.nothing_left(client.user)


@pytest.mark.long
@pytest.mark.parametrize("frozen", [False, True])
async def test_away_for_longer_than_any_wait_is_told_and_outlasted(
    faulty: FaultCluster,
    client: AsyncClient,
    truth: Truth,
    clip: MakeClip,
    tmp_path: Path,
    frozen: bool,
) -> None:
    video_id = await client.upload(clip(SHORT))
    created = await client.create_export(video_id, settings=SMALL)
    seen: list[pb.Export] = []

    async def follow() -> None:
        seen.extend([export async for export in client.watch(created.id)])

    following = asyncio.create_task(follow())
    if frozen:
        paused = faulty.pause("postgres")
        await asyncio.sleep(AWAY_S)
        resume(paused)
    else:
        await faulty.cluster.stop("postgres")
        await asyncio.sleep(AWAY_S)
        await faulty.cluster.start("postgres")
    back = time.monotonic()
    await client.get(created.id)
    print(f"first answer {time.monotonic() - back:.2f} s after postgres was back")

    await completed(client, created.id, FRAMES, tmp_path)
    print(f"export ended {time.monotonic() - back:.2f} s after postgres was back")
    await asyncio.wait_for(following, 10)
    progress = [export.progress for export in seen]
    assert progress == sorted(progress)
    assert seen[-1].state == pb.EXPORT_STATE_COMPLETED
    await truth.nothing_left(client.user)
