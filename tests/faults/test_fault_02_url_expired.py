"""Fault 2: a presigned URL runs out while a task uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.cluster import FaultCluster
from faults.s3_door import Harm, Operation
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import (
    FINISHED_S,
    SHORT,
    SLOW,
    check_exact,
    check_tidy,
    finish,
    task_events,
)
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient, ExportFailed
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
# Filler makes it larger than what is read ahead of the encoder.
PADDED = ("-b:v", "60M", "-maxrate", "60M", "-bufsize", "5M", "-x264-params", "nal-hrd=cbr")
LARGE = Clip(
    frames=100,
    width=320,
    height=180,
    encoder=("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", *PADDED),
)


@pytest.mark.long
async def test_url_that_runs_out_during_the_encode_is_signed_anew(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(LARGE))
    # Much is still to be read when the URL runs out, which the encode has read by already.
    slowed = faulty.s3_door.harm(Operation.GET, Harm.SLOW, times=None, key=video_id, seconds=1.0)
    async with task_events(faulty) as events, asyncio.timeout(FINISHED_S):
        export = await client.create_export(video_id, settings=SLOW)
        await events.next("started", export.id, after=1)  # the first is that of the probe
        probed = slowed.met
        while slowed.met < probed + 3:
            await asyncio.sleep(0.05)
        await faulty.s3_door.expire_urls()
        slowed.over.set()
        done = await finish(client, export.id)
    assert faulty.s3_door.expired, "all was read before the URL ran out"
    assert events.kinds(export.id) == ["started", "succeeded"]
    await check_exact(client, done, range(LARGE.frames), tmp_path)
    await check_tidy(leftovers, outputs=1)


async def test_upload_whose_urls_run_out_is_begun_anew(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    refused = faulty.s3_door.harm(Operation.PUT, Harm.FORBIDDEN, times=2, key="/exports/")
    async with task_events(faulty) as events:
        export = await client.create_export(video_id, settings=SMALL)
        done = await finish(client, export.id)
    assert refused.met == 2
    # What was encoded is not encoded again.
    assert events.kinds(export.id) == ["started", "succeeded"]
    await check_exact(client, done, range(SHORT.frames), tmp_path)
    await check_tidy(leftovers, outputs=1)


async def test_source_that_stays_refused_fails_the_export_until_its_owner_tries_again(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    faulty.s3_door.harm(Operation.GET, Harm.FORBIDDEN, times=None, key=video_id)
    export = await client.create_export(video_id, settings=SMALL)
    async with asyncio.timeout(FINISHED_S):
        with pytest.raises(ExportFailed) as failed:
            await client.wait(export.id)
    ended = failed.value.export
    assert (ended.state, ended.error.code) == (pb.EXPORT_STATE_FAILED, "SOURCE_UNAVAILABLE")
    assert ended.error.retryable
    await check_tidy(leftovers, outputs=0)
    faulty.heal()
    await client.retry(export.id)
    done = await finish(client, export.id)
    await check_exact(client, done, range(SHORT.frames), tmp_path)
