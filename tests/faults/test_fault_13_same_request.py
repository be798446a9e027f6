"""Faults 9 and 13: exports ordered while NATS is away, and by the same call on both replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from faults.cluster import FaultCluster
from services.common.subjects import TASKS_STREAM
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import shut
from tests.faults.truth import Truth, completed
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient, Refused
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
CALLS = 10


async def test_same_call_on_both_replicas_without_nats_is_one_export(
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(Clip(frames=len(FRAMES))))
    shut(faulty.network.select(lambda part, nats: "api" in part and "nats" in nats))
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(AsyncClient(api.address, user=client.user))
            for api in faulty.cluster.apis
        ]
        made = await asyncio.gather(
            *(
                replicas[call % len(replicas)].create_export(
                    video_id, request_id="once", settings=SMALL
                )
                for call in range(CALLS)
            )
        )
        [export_id] = {export.id for export in made}
        assert made[0].state == pb.EXPORT_STATE_QUEUED
        for replica in replicas:
            with pytest.raises(Refused) as refused:
                await replica.create_export(video_id, [(0, 0.4)], request_id="once", settings=SMALL)
            assert refused.value.reason == "REQUEST_ID_REUSED"
    [task] = await truth.tasks(export_id)
    assert (task["state"], task["attempt"]) == ("PENDING", 0)
    assert await truth.messages(TASKS_STREAM) == 0

    faulty.heal()
    await completed(client, export_id, FRAMES, tmp_path)
    assert [export.id async for export in client.list()] == [export_id]
    assert [task["run_count"] for task in await truth.tasks(export_id)] == [1, 1]
    await truth.nothing_left(client.user)
