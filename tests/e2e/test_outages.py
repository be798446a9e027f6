"""Postgres, NATS or S3 away: a clear answer, nothing lost, back to normal by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path

import pytest
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.local.cluster import LocalCluster
from tests.e2e.small_exports import SMALL
from tests.media.frame_codes import Clip
from videoexport.channel import open_channel
from videoexport.client import AsyncClient, ServiceUnreachable, Timeouts
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
SHORT = Clip(rate=Fraction(25), frames=50)


@pytest.fixture
async def impatient(cluster: LocalCluster) -> AsyncIterator[AsyncClient]:
    """A client that tells of an outage at once."""
    async with AsyncClient(
        cluster.api.address, user="impatient", timeouts=Timeouts(connect=0.5)
    ) as opened:
        yield opened


async def finish(client: AsyncClient, export_id: str) -> pb.Export:
    """Wait for an export, whatever is away for a while."""
    async with asyncio.timeout(60):
        return await client.wait(export_id)


async def health(cluster: LocalCluster) -> dict[str, str]:
    """Return what each service says: `+` it serves, `-` it does not, and what is away."""
    addresses = {"api": cluster.api.address, "storage": cluster.storage.address}
    addresses["encoder"] = cluster.encoders[0].address
    return {name: await said(address) for name, address in addresses.items()}


async def said(address: str) -> str:
    names = ["", *(f"dependency.{name}" for name in ("postgres", "nats", "storage", "s3"))]
    async with open_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]

        async def serves(name: str) -> bool | None:
            request = health_pb2.HealthCheckRequest(service=name)
            try:
                answer = await check(request, timeout=5)
            except AioRpcError:
                return None  # it stands on no such thing
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        assert await serves("liveness")
        away = [name.partition(".")[2] for name in names[1:] if await serves(name) is False]
        return " ".join(["+" if await serves("") else "-", *away])


async def is_said(cluster: LocalCluster, **expected: str) -> None:
    """Wait until the services say these things, and are alive all the time."""
    async with asyncio.timeout(30):
        while (found := await health(cluster)) != expected:
            await asyncio.sleep(0.1)
            assert set(found) == set(expected)


async def test_postgres_away_is_unavailable_and_comes_back(
    cluster: LocalCluster, impatient: AsyncClient, clip: MakeClip
) -> None:
    video_id = await impatient.upload(clip(SHORT))
    await cluster.stop("postgres")
    try:
        with pytest.raises(ServiceUnreachable) as unreachable:
            await impatient.create_export(video_id, settings=SMALL)
        assert unreachable.value.reason == "STORE_UNAVAILABLE"
        await is_said(cluster, api="- postgres", storage="+", encoder="+")
    finally:
        await cluster.start("postgres")
    export = await impatient.create_export(video_id, settings=SMALL)
    assert (await finish(impatient, export.id)).state == pb.EXPORT_STATE_COMPLETED


async def test_export_accepted_while_nats_is_away_is_done_later(
    cluster: LocalCluster, impatient: AsyncClient, clip: MakeClip
) -> None:
    video_id = await impatient.upload(clip(SHORT))
    await cluster.stop("nats")
    try:
        export = await impatient.create_export(video_id, settings=SMALL)
        assert export.state == pb.EXPORT_STATE_QUEUED
        await is_said(cluster, api="+ nats", storage="+", encoder="- nats")
    finally:
        await cluster.start("nats")
    assert (await finish(impatient, export.id)).state == pb.EXPORT_STATE_COMPLETED


async def test_s3_away_is_unavailable_and_comes_back(
    cluster: LocalCluster, impatient: AsyncClient, clip: MakeClip
) -> None:
    video_id = await impatient.upload(clip(SHORT))
    await cluster.stop("s3")
    try:
        with pytest.raises(ServiceUnreachable) as unreachable:
            await impatient.create_export(video_id, settings=SMALL)
        assert unreachable.value.reason == "STORAGE_UNAVAILABLE"
        await is_said(cluster, api="+ storage", storage="- s3", encoder="- storage")
    finally:
        await cluster.start("s3")
    export = await impatient.create_export(video_id, settings=SMALL)
    assert (await finish(impatient, export.id)).state == pb.EXPORT_STATE_COMPLETED


async def test_download_while_storage_is_away_is_unavailable_not_refused(
    cluster: LocalCluster, impatient: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await impatient.upload(clip(SHORT))
    done = await finish(impatient, (await impatient.create_export(video_id, settings=SMALL)).id)
    await cluster.stop("storage")
    try:
        with pytest.raises(ServiceUnreachable) as unreachable:
            await impatient.download(done, tmp_path / "out.mp4")
        assert unreachable.value.reason == "STORAGE_UNAVAILABLE"
    finally:
        await cluster.start("storage")
    # One that is patient by default does not notice that the API itself has to find it again.
    async with AsyncClient(cluster.api.address, user=impatient.user) as patient:
        await patient.download(done, tmp_path / "out.mp4")


async def test_api_restart_during_an_export_loses_nothing(
    cluster: LocalCluster, client: AsyncClient, clip: MakeClip
) -> None:
    video_id = await client.upload(clip(SHORT))
    export = await client.create_export(video_id, settings=SMALL)
    cluster.kill("api")
    done = await finish(client, export.id)
    assert done.output.frame_count == 50
