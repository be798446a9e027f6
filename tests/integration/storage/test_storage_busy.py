"""A service with its hands full goes on answering, and looks alive."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import aiohttp
import pytest
from denying_proxy import denying_proxy
from storage_rig import (
    ANN,
    SERVING,
    Server,
    completion,
    put,
    service_running,
    source_upload,
    uploaded,
)

from videoexport.v1 import storage_service_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")

# More than a replica has turns, of all kinds together.
CALLS = 30
# Longer than a check of health may take.
WATCHED_SECONDS = 5


async def test_many_joins_at_once_keep_neither_health_nor_quick_calls_waiting(
    s3: Server, http: aiohttp.ClientSession
) -> None:
    async with denying_proxy(s3.part.endpoint) as proxy:
        settings = s3.settings(f"busy-{uuid4().hex}", s3_endpoint=proxy.endpoint)
        async with service_running(settings) as service:
            await service.until(SERVING)
            kept = await uploaded(service, http, b"abc")
            sent = []
            for _ in range(CALLS):
                begun = await service.stub.CreateUpload(source_upload(3), metadata=ANN)
                assert await put(http, begun.parts[0].url, b"def") == 200
                sent.append(completion(begun, [b"def"]))
            proxy.held.add("POST uploadId")
            joins = [
                asyncio.ensure_future(service.stub.CompleteUpload(one, metadata=ANN))
                for one in sent
            ]
            loop = asyncio.get_running_loop()
            end = loop.time() + WATCHED_SECONDS
            while loop.time() < end:
                request = pb.StatObjectsRequest(objects=[kept.object])
                answer = await service.stub.StatObjects(request, metadata=ANN, timeout=2)
                assert answer.objects[0].exists
                assert await service.health() == SERVING
                await asyncio.sleep(0.1)
            assert not any(join.done() for join in joins)
            proxy.release.set()
            assert all(answer.object.exists for answer in await asyncio.gather(*joins))


async def test_many_slow_answers_do_not_make_a_replica_look_dead(
    s3: Server, http: aiohttp.ClientSession
) -> None:
    async with denying_proxy(s3.part.endpoint) as proxy:
        settings = s3.settings(f"slow-{uuid4().hex}", s3_endpoint=proxy.endpoint)
        async with service_running(settings) as service:
            await service.until(SERVING)
            kept = await uploaded(service, http, b"abc")
            proxy.held.add("HEAD object")
            request = pb.StatObjectsRequest(objects=[kept.object])
            questions = [
                asyncio.ensure_future(service.stub.StatObjects(request, metadata=ANN))
                for _ in range(CALLS)
            ]
            loop = asyncio.get_running_loop()
            end = loop.time() + WATCHED_SECONDS
            while loop.time() < end:
                assert await service.health() == SERVING
                await asyncio.sleep(0.1)
            assert not any(question.done() for question in questions)
            proxy.release.set()
            assert all(answer.objects[0].exists for answer in await asyncio.gather(*questions))
