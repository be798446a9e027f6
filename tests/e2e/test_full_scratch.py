"""An encoder without room on its scratch disk: it says so, takes no encodes, and hurts nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.errors import Reason
from services.common.status import from_rpc_error
from services.local.cluster import LocalCluster
from services.local.services import ServicePart
from tests.e2e.small_exports import SMALL
from tests.media.frame_codes import Clip
from videoexport.channel import call_metadata, open_channel
from videoexport.client import AsyncClient
from videoexport.v1 import encoder_service_pb2 as service
from videoexport.v1 import export_pb2 as pb
from videoexport.v1.encoder_service_pb2_grpc import EncoderServiceStub

MakeClip = Callable[[Clip], Path]
NAME = "encoder-full"
SHORT = Clip(rate=Fraction(25), frames=50)


@pytest.fixture
async def full_encoder(cluster: LocalCluster) -> AsyncIterator[ServicePart]:
    """Another encoder, which wants more room than any disk has."""
    infrastructure = cluster.infrastructure
    part = ServicePart(
        NAME,
        "encoder",
        port=infrastructure.ports.port(NAME),
        metrics_port=infrastructure.ports.port(f"{NAME}.metrics"),
        settings={
            "id": NAME,
            "nats_url": infrastructure.nats.url,
            "storage_address": cluster.storage.address,
            "scratch_dir": str(cluster.directory / "scratch" / NAME),
            "scratch_least_free_bytes": str(1 << 62),
            "encoder_threads": "1",
        },
        extra_env={},
        logs=infrastructure.logs,
        temporary=cluster.directory / "tmp" / NAME,
    )
    await part.prepare()
    # Not by the supervisor, which waits until it serves.
    process = await asyncio.create_subprocess_exec(
        *part.command().argv, env=dict(part.command().env)
    )
    yield part
    process.terminate()
    async with asyncio.timeout(60):
        await process.wait()


async def listed(client: AsyncClient) -> pb.Encoder | None:
    return next((item for item in await client.encoders() if item.id == NAME), None)


async def test_encoder_with_a_full_disk_says_so_and_takes_nothing_but_probes(
    cluster: LocalCluster, client: AsyncClient, clip: MakeClip, full_encoder: ServicePart
) -> None:
    async with asyncio.timeout(60):
        while (encoder := await listed(client)) is None:
            await asyncio.sleep(0.1)
    assert encoder.problem.startswith("The encoder's scratch disk is full: ")
    source = pb.Source(video_id=await client.upload(clip(SHORT)))
    async with open_channel(full_encoder.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        answer = await check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        answer = await check(health_pb2.HealthCheckRequest(service="liveness"), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = EncoderServiceStub(channel)
        metadata = call_metadata(client.user)
        request = service.EncodeRequest(source=source, settings=SMALL)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Encode(request, metadata=metadata, timeout=20).read()
        error = from_rpc_error(refused.value, unavailable=Reason.INTERNAL)
        assert error.reason is Reason.SCRATCH_FULL
        assert "scratch disk is full" in error.message
        probed = await stub.Probe(
            service.ProbeRequest(source=source), metadata=metadata, timeout=30
        )
        assert probed.info.video.frame_count == 50
    # With it in the cluster, exports are made by the other, at the first attempt.
    export = await client.create_export(source, settings=SMALL)
    done = await client.wait(export.id)
    assert done.state == pb.EXPORT_STATE_COMPLETED
