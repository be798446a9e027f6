"""Fault 15: a task that kills every encoder that takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.cluster import FaultCluster
from services.common.subjects import MAX_DELIVERIES
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import FINISHED_S, SHORT, check_exact, check_tidy, finish, task_events
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient, ExportFailed
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]


@pytest.mark.long
async def test_task_that_kills_its_encoders_is_given_up_and_harms_no_other(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    # Probed before: the first run of an export is its encode.
    await client.plan(video_id, settings=SMALL)
    async with task_events(faulty) as events:
        poison = await client.create_export(video_id, [(0, 1)], settings=SMALL)
        for death in range(MAX_DELIVERIES):
            begun = await events.next("started", poison.id, after=death)
            assert begun.started.delivery_count == death + 1
            faulty.cluster.kill(begun.encoder_id)
        beside = await client.create_export(video_id, settings=SMALL)
        done = await finish(client, beside.id)
        async with asyncio.timeout(FINISHED_S):
            with pytest.raises(ExportFailed) as failed:
                await client.wait(poison.id)
    error = failed.value.export.error
    assert failed.value.export.state == pb.EXPORT_STATE_FAILED
    assert (error.code, error.retryable) == ("WORKER_LOST", False)
    assert error.message == f"{MAX_DELIVERIES} encoders vanished while they worked on it."
    await check_exact(client, done, range(SHORT.frames), tmp_path)
    await check_tidy(leftovers, outputs=1)
