"""Fault 19: an encoder's scratch disk is full when its FFmpeg writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from faults.cluster import FaultCluster
from faults.full_disk import DEVICE
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import SHORT, check_exact, check_tidy, finish, shut, task_events
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]
pytestmark = pytest.mark.skipif(not DEVICE.exists(), reason="there is no /dev/full here")


async def test_run_that_finds_no_room_is_made_by_another_encoder(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    # Probed before: the first run of the export is its encode.
    await client.plan(video_id, settings=SMALL)
    for disk in faulty.disks.values():
        disk.fill()
    async with task_events(faulty) as events:
        export = await client.create_export(video_id, settings=SMALL)
        ended = await events.next("failed", export.id)
        full = ended.encoder_id
        # It gets no more work, so that the next run is another one's, and they have room.
        shut(faulty.network.select(lambda part, server: part == full and "nats" in server))
        for encoder, disk in faulty.disks.items():
            if encoder != full:
                disk.has_room()
        done = await finish(client, export.id)
    assert ended.failed.code == "SCRATCH_FULL"
    # Owners are told, whom the names of encoders are nothing to.
    assert full not in ended.failed.message
    told = events.of(export.id)
    assert told[:2] == [("started", full), ("failed", full)]
    # Whoever had it before there was room again has found none either.
    assert set(events.failures(export.id)) == {"SCRATCH_FULL"}
    makers = {encoder for kind, encoder in told if kind == "succeeded"}
    assert makers
    assert full not in makers
    await check_exact(client, done, range(SHORT.frames), tmp_path)
    await check_tidy(leftovers, outputs=1)
