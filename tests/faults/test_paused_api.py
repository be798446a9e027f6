"""A replica of the API that hangs: its callers are answered by the other one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from faults.cluster import FaultCluster
from faults.s3_door import Harm, Operation
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import watch_streams
from tests.faults.truth import Truth, completed, until
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
        faulty.s3_door.harm(Operation.GET, Harm.STALL, times=None, key="videos/")
        watched = await caller.create_export(video_id, [(0, 0.4)], settings=SMALL)
        # The replicas are called in turn: one of two watches is of each.
        watches = [asyncio.create_task(caller.wait(watched.id)) for _ in range(2)]

        async def each_has_one() -> bool:
            return [await watch_streams(api) for api in faulty.cluster.apis] == [1, 1]

        await until(each_has_one)
        faulty.pause("api-2")
        # One of two calls is to the other replica first.
        created = [await caller.create_export(video_id, settings=SMALL) for _ in range(CALLS)]
        assert len({export.id for export in created}) == CALLS
        await caller.delete(created[0].id)
        # That a watch is of a replica that hangs is noticed after 18 s.
        faulty.s3_door.heal()
        async with asyncio.timeout(45):
            await asyncio.gather(*watches)
        faulty.heal()
    await asyncio.gather(*(completed(client, each.id, FRAMES, tmp_path) for each in created[1:]))
    # What the replica finds when it wakes up are calls that nobody waits for, and that
    # were done.
    assert {each.id async for each in client.list()} == {
        watched.id,
        *(each.id for each in created[1:]),
    }
    await truth.nothing_left(client.user)
