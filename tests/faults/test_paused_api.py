"""A replica of the API that hangs: its callers are answered by the other one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from faults.cluster import FaultCluster
from tests.faults.truth import Truth, completed
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient, Timeouts

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
CALLS = 4


async def test_calls_to_a_replica_that_hangs_are_answered_by_the_other_one(
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(Clip(frames=len(FRAMES))))
    hasty = Timeouts(call=1.5, connect=30)
    async with AsyncClient(faulty.cluster.address, user=client.user, timeouts=hasty) as caller:
        await caller.encoders()
        faulty.pause("api-2")
        # The replicas are called in turn, so that one of two calls is to the other first.
        created = [await caller.create_export(video_id) for _ in range(CALLS)]
        assert len({export.id for export in created}) == CALLS
        await caller.delete(created[0].id)
        faulty.heal()
    await asyncio.gather(*(completed(client, each.id, FRAMES, tmp_path) for each in created[1:]))
    # What the replica finds when it wakes up are calls that nobody waits for, and that
    # were done.
    assert {each.id async for each in client.list()} == {each.id for each in created[1:]}
    await truth.nothing_left(client.user)
