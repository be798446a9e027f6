"""S3 comes and goes: callers get UNAVAILABLE meanwhile, and everything comes back by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
import grpc
import pytest
import pytest_asyncio
from aiohttp import web
from storage_rig import (
    ANN,
    NOT_SERVING,
    SERVING,
    SOURCE_BUCKET,
    Server,
    Service,
    refused,
    s3_object,
    server_running,
    service_running,
    source_upload,
    uploaded,
)

from services.local.ports import LOOPBACK
from services.storage.buckets import RULES
from videoexport.v1 import export_pb2
from videoexport.v1 import storage_service_pb2 as pb

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import LifecycleRuleTypeDef

pytestmark = pytest.mark.asyncio(loop_scope="module")

VIDEO = pb.ObjectRef(source=export_pb2.Source(video_id="vid_" + "0" * 32))
UPLOAD = pb.UploadRef(object=VIDEO, upload_id="x")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    """An S3 server that the tests here may stop; each leaves it running."""
    async with server_running() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def every_rpc_is_unavailable(service: Service) -> None:
    parts = [pb.UploadedPart(part_number=1, md5="0" * 32)]
    calls: list[tuple[Callable[..., Awaitable[object]], object]] = [
        (service.stub.CreateUpload, source_upload(1)),
        (
            service.stub.CompleteUpload,
            pb.CompleteUploadRequest(upload=UPLOAD, parts=parts, size_bytes=1),
        ),
        (service.stub.AbortUpload, pb.AbortUploadRequest(upload=UPLOAD)),
        (service.stub.StatObjects, pb.StatObjectsRequest(objects=[VIDEO] * 20)),
        (service.stub.SignDownload, pb.SignDownloadRequest(object=VIDEO)),
        (service.stub.DeleteObjects, pb.DeleteObjectsRequest(objects=[VIDEO])),
    ]
    for call, request in calls:
        with refused() as refusal:
            await call(request, metadata=ANN, timeout=10)
        assert refusal.code is grpc.StatusCode.UNAVAILABLE, request
        assert refusal.reason == "STORAGE_UNAVAILABLE", request


async def test_killed_s3_makes_calls_unavailable_until_it_is_back(
    server: Server, session: aiohttp.ClientSession
) -> None:
    async with service_running(server.settings("killed")) as service:
        await service.until(SERVING)
        kept = await uploaded(service, session, b"abc")
        server.supervisor.kill("s3")
        await server.supervisor.stop("s3")
        await every_rpc_is_unavailable(service)
        await service.until(NOT_SERVING)
        await server.supervisor.start_again("s3")
        await service.until(SERVING)
        answer = await service.stub.StatObjects(
            pb.StatObjectsRequest(objects=[kept.object]), metadata=ANN
        )
        assert answer.objects[0].exists
        await uploaded(service, session, b"def")


async def test_silent_s3_is_given_up_in_time(
    server: Server, session: aiohttp.ClientSession
) -> None:
    settings = server.settings("silent", s3_timeout_seconds=0.5)
    async with service_running(settings) as service:
        await service.until(SERVING)
        process = server.supervisor.pids["s3"]
        os.kill(process, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with refused() as refusal:
                await service.stub.CreateUpload(source_upload(1), metadata=ANN)
            assert refusal.reason == "STORAGE_UNAVAILABLE"
            assert time.monotonic() - started < 15
            await service.until(NOT_SERVING)
        finally:
            os.kill(process, signal.SIGCONT)
        await service.until(SERVING)
        await uploaded(service, session, b"abc")


async def test_s3_that_answers_too_slowly_is_given_up_in_time(server: Server) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A byte every now and then: no single read of the answer takes long.
        with suppress(ConnectionError, asyncio.CancelledError):
            for _ in range(100):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.1)
        writer.transport.abort()

    slow = await asyncio.start_server(trickle, LOOPBACK, 0)
    endpoint = f"http://{LOOPBACK}:{slow.sockets[0].getsockname()[1]}"
    settings = server.settings("slow", s3_endpoint=endpoint, s3_timeout_seconds=0.5)
    async with slow, service_running(settings) as service:
        await service.until(NOT_SERVING)
        started = time.monotonic()
        with refused() as refusal:
            await service.stub.CreateUpload(source_upload(1), metadata=ANN)
        assert refusal.reason == "STORAGE_UNAVAILABLE"
        assert time.monotonic() - started < 4


async def test_service_starts_without_s3_and_sets_the_bucket_up_later(server: Server) -> None:
    await server.supervisor.stop("s3")
    async with service_running(server.settings("early", bucket="made-later")) as service:
        await service.until(NOT_SERVING)
        with refused() as refusal:
            await service.stub.CreateUpload(source_upload(1), metadata=ANN)
        assert refusal.reason == "STORAGE_UNAVAILABLE"
        await server.supervisor.start_again("s3")
        await service.until(SERVING)
        assert rules(server, "made-later") == sorted(rule["ID"] for rule in RULES)


async def test_bucket_that_vanishes_is_set_up_again(
    server: Server, session: aiohttp.ClientSession
) -> None:
    async with service_running(server.settings("vanished", bucket="vanishing")) as service:
        await service.until(SERVING)
        server.client.delete_bucket(Bucket="vanishing")
        with refused() as refusal:
            await service.stub.CreateUpload(source_upload(1), metadata=ANN)
        assert refusal.reason == "STORAGE_UNAVAILABLE"
        async with asyncio.timeout(10):
            while rules(server, "vanishing") != sorted(rule["ID"] for rule in RULES):
                await asyncio.sleep(0.1)
        await service.until(SERVING)
        await uploaded(service, session, b"abc")


async def test_bucket_that_s3_refuses_is_tried_until_it_is_taken(server: Server) -> None:
    refusing = True

    async def answer(request: web.Request) -> web.Response:
        """Answer as AWS does for a bucket in a region that it does not know, until repaired."""
        code = "IllegalLocationConstraintException"
        if request.method == "GET":
            code = "NoSuchLifecycleConfiguration"
        elif not refusing:
            return web.Response()
        status = 404 if request.method in ("HEAD", "GET") else 400
        return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>")

    application = web.Application()
    application.router.add_route("*", "/{bucket}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    settings = server.settings("refused", s3_endpoint=f"http://{LOOPBACK}:{runner.addresses[0][1]}")
    async with service_running(settings) as service:
        await service.until(NOT_SERVING)
        refused_creations = (
            'videoexport_storage_s3_requests_total{operation="create_bucket",result="error"}'
        )
        async with asyncio.timeout(10):
            while (await service.metrics()).get(refused_creations, 0) < 2:
                await asyncio.sleep(0.1)
        assert await service.health() == NOT_SERVING
        refusing = False
        await service.until(SERVING)
    await runner.cleanup()


async def test_lifecycle_is_set_and_rules_of_operators_stay(server: Server) -> None:
    client = server.client
    client.create_bucket(Bucket="with-rules")
    theirs: LifecycleRuleTypeDef = {
        "ID": "theirs",
        "Status": "Enabled",
        "Filter": {"Prefix": "theirs/"},
        "Expiration": {"Days": 3},
    }
    stale: LifecycleRuleTypeDef = {
        "ID": "videoexport-cache",
        "Status": "Enabled",
        "Filter": {"Prefix": "cache/"},
        "Expiration": {"Days": 99},
    }
    client.put_bucket_lifecycle_configuration(
        Bucket="with-rules", LifecycleConfiguration={"Rules": [theirs, stale]}
    )
    for _ in range(2):
        async with service_running(server.settings("rules", bucket="with-rules")) as service:
            await service.until(SERVING)
    stored = client.get_bucket_lifecycle_configuration(Bucket="with-rules")["Rules"]
    by_id = {rule["ID"]: rule for rule in stored}
    assert len(stored) == 4
    assert by_id["theirs"]["Expiration"]["Days"] == 3
    assert by_id["videoexport-cache"]["Filter"]["Prefix"] == "cache/"
    assert by_id["videoexport-cache"]["Expiration"]["Days"] == 7
    assert by_id["videoexport-previews"]["Filter"]["Prefix"] == "previews/"
    assert by_id["videoexport-previews"]["Expiration"]["Days"] == 1
    unfinished = by_id["videoexport-unfinished-uploads"]["AbortIncompleteMultipartUpload"]
    assert unfinished["DaysAfterInitiation"] == 1
    assert all(rule["Status"] == "Enabled" for rule in stored)


async def test_refused_credentials_are_unavailable_not_missing(server: Server) -> None:
    server.client.create_bucket(Bucket=SOURCE_BUCKET)
    server.client.put_object(Bucket=SOURCE_BUCKET, Key="a.mov", Body=b"abc")
    settings = server.settings("wrong", s3_secret_key="not-the-secret")
    async with service_running(settings) as service:
        await service.until(NOT_SERVING)
        request = pb.StatObjectsRequest(objects=[s3_object(SOURCE_BUCKET, "a.mov")])
        with refused() as refusal:
            await service.stub.StatObjects(request, metadata=ANN)
        assert refusal.reason == "STORAGE_UNAVAILABLE"
        await every_rpc_is_unavailable(service)


def rules(server: Server, bucket: str) -> list[str]:
    client = server.client
    try:
        stored = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except client.exceptions.ClientError:
        return []
    return sorted(rule["ID"] for rule in stored)
