"""The service while something that it stands on is away: told, survived, and back by itself."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from api_parts import until
from api_rig import Rig
from api_service import (
    ANNA,
    NOT_SERVING,
    SERVICE_NAME,
    SERVING,
    Api,
    FakeEncoder,
    Surroundings,
    api_running,
    create,
    get,
    is_state,
    lists,
    not_empty,
    refusal,
    watched,
)
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2

from services.common.config import StartupError
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service


async def test_readiness_follows_postgres_alone_and_liveness_nothing(around: Surroundings) -> None:
    names = {name: f"dependency.{name}" for name in ("postgres", "nats", "storage")}
    parts = {**dict.fromkeys(("postgres", "nats"), ""), "storage": around.storage.name}
    async with api_running(around) as api, aiohttp.ClientSession() as http:

        async def up() -> dict[str, bool]:
            async with http.get(f"http://{api.metrics_address}/metrics") as response:
                told = await response.text()
            return {name: f'dependency_up{{dependency="{name}"}} 1.0' in told for name in names}

        await api.until(SERVING, SERVICE_NAME, *names.values())
        assert await up() == dict.fromkeys(names, True)
        for part, name in names.items():
            stop = parts[part] or part
            await around.infrastructure.supervisor.stop(stop)
            try:
                await api.until(NOT_SERVING, name)
                expected = NOT_SERVING if part == "postgres" else SERVING
                assert await api.health() == expected
                assert await api.health("") == expected
                assert await api.health("liveness") == SERVING
                assert await up() == {other: other != part for other in names}
            finally:
                await around.infrastructure.supervisor.start_again(stop)
            await api.until(SERVING, SERVICE_NAME, *names.values())


@pytest.mark.parametrize("part", ["postgres", "nats"])
async def test_service_starts_without_what_it_stands_on_and_works_once_it_is_there(
    around: Surroundings, rig: Rig, encoder: FakeEncoder, part: str
) -> None:
    await around.infrastructure.stop(part)
    try:
        async with api_running(around) as api:
            await api.until(SERVING, "liveness")
            assert await api.health(f"dependency.{part}") == NOT_SERVING
            await around.infrastructure.start(part)
            await api.until(SERVING)
            # Everything that listens on NATS does so.
            await encoder.heartbeat(pb.Encoder(id="encoder-8"))
            await until(lambda: _heard(api, encoder))
            export = await create(api, await encoder.probed_video(rig))
            assert (await encoder.take(Lane.CPU)).export_id == export.id
    finally:
        if part not in around.infrastructure.pids:
            await around.infrastructure.start(part)


async def _heard(api: Api, encoder: FakeEncoder) -> bool:
    await encoder.heartbeat(pb.Encoder(id="encoder-8"))
    return await lists(api, "encoder-8")


async def test_postgres_away_is_unavailable_and_back_by_itself(
    around: Surroundings, rig: Rig
) -> None:
    case = await rig.create()
    request = service.GetExportRequest(export_id=case.id)
    async with api_running(around) as api:
        await api.until(SERVING)
        seen: list[pb.Export] = []
        watching = asyncio.create_task(watched(api, case.id, seen))
        await until(lambda: not_empty(seen))
        await around.infrastructure.stop("postgres")
        try:
            refused = await refusal(api.exports.GetExport(request, metadata=ANNA))
            assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            assert refused.retry_seconds == 2
        finally:
            await around.infrastructure.start("postgres")
        assert (await api.exports.GetExport(request, metadata=ANNA)).export.id == case.id
        # A watch outlives it.
        cancel = service.CancelExportRequest(export_id=case.id)
        await api.exports.CancelExport(cancel, metadata=ANNA)
        await asyncio.wait_for(watching, 10)
        assert seen[-1].state == pb.EXPORT_STATE_CANCELLED


async def test_export_is_accepted_while_nats_is_away_and_done_later(
    around: Surroundings, rig: Rig, encoder: FakeEncoder
) -> None:
    video = await encoder.probed_video(rig)
    async with api_running(around) as api:
        await api.until(SERVING)
        await around.infrastructure.stop("nats")
        try:
            started = time.monotonic()
            export = await create(api, video)
            assert time.monotonic() - started < 2
            assert export.state == pb.EXPORT_STATE_QUEUED
            await api.until(NOT_SERVING, "dependency.nats")
            assert await api.health() == SERVING, "or callers would be sent elsewhere"
        finally:
            await around.infrastructure.start("nats")
        await api.until(SERVING)
        task = await encoder.take(Lane.CPU)
        assert task.export_id == export.id
        await encoder.encode(task, b"later")
        await until(lambda: is_state(api, export.id, pb.EXPORT_STATE_COMPLETED))


async def test_storage_away_is_unavailable_and_hides_no_export(
    around: Surroundings, rig: Rig, encoder: FakeEncoder
) -> None:
    video = await encoder.probed_video(rig)
    case = await rig.create()
    await case.complete()
    async with api_running(around) as api:
        await api.until(SERVING)
        await around.infrastructure.supervisor.stop(around.storage.name)
        try:
            request = service.CreateExportRequest(source=pb.Source(video_id=video))
            refused = await refusal(api.exports.CreateExport(request, metadata=ANNA))
            assert refused.code is StatusCode.UNAVAILABLE
            assert (refused.reason, refused.retry_seconds) == ("STORAGE_UNAVAILABLE", 2)
            export = await get(api, case.id)
            assert export.state == pb.EXPORT_STATE_COMPLETED
            assert export.output.download_url == ""
            assert await api.health() == SERVING
        finally:
            await around.infrastructure.supervisor.start_again(around.storage.name)
        await until(lambda: _can_create(api, video))


async def _can_create(api: Api, video: str) -> bool:
    try:
        await create(api, video)
    except AioRpcError:
        return False
    return True


async def test_health_watch_is_told_of_changes(around: Surroundings) -> None:
    async with api_running(around) as api:
        await api.until(SERVING)
        check = api.channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        stream: Any = check(health_pb2.HealthCheckRequest(service="videoexport.v1.ExportService"))
        assert (await stream.read()).status == SERVING
        await around.infrastructure.stop("postgres")
        try:
            assert (await asyncio.wait_for(stream.read(), 10)).status == NOT_SERVING
        finally:
            await around.infrastructure.start("postgres")
        assert (await asyncio.wait_for(stream.read(), 10)).status == SERVING
        stream.cancel()


async def test_two_services_on_one_port_are_refused(around: Surroundings) -> None:
    async with api_running(around) as first:
        await first.until(SERVING)
        port = int(first.address.rpartition(":")[2])
        with pytest.raises(StartupError, match=str(port)):
            async with api_running(around, listen_port=port) as second:
                await second.stop()
