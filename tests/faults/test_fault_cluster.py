"""The cluster that faults are injected into works, with everything more than once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nats
import pytest

from faults.cluster import FaultCluster
from services.common.subjects import EVENTS_STREAM, TASKS_STREAM
from tests.e2e.small_exports import SMALL
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]


async def test_export_runs_through_relays_and_both_replicas(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip
) -> None:
    created = await client.create_export(await client.upload(clip(Clip(frames=50))), settings=SMALL)
    done = [export async for export in client.watch(created.id)][-1]
    assert done.state == pb.EXPORT_STATE_COMPLETED
    assert done.output.frame_count == 50
    for api in ("api", "api-2"):
        assert faulty.network.between(api, "postgres").connections
    assert faulty.network.between("*", "s3").connections
    assert len(await client.encoders()) == 3


@pytest.mark.parametrize("stream", [TASKS_STREAM, EVENTS_STREAM])
async def test_streams_have_three_copies(faulty: FaultCluster, stream: str) -> None:
    connection = await nats.connect(faulty.cluster.infrastructure.nats.url)
    try:
        info = await connection.jetstream().stream_info(stream)
    finally:
        await connection.close()
    assert info.config.num_replicas == 3
