"""What an assembly asks of a StorageService whose S3 is slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest

from services.encoder.errors import PartMissing
from services.encoder.storage import StorageClient
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import storage_service_pb2_grpc

SECONDS_A_STAT = 0.002
KEYS = [number.to_bytes(32, "big") for number in range(700)]


class SlowStorage(storage_service_pb2_grpc.StorageServiceServicer):
    """Takes its time for every object; the last of the keys is not there."""

    async def StatObjects(
        self,
        request: storage.StatObjectsRequest,
        _context: grpc.aio.ServicerContext[Any, Any],
    ) -> storage.StatObjectsResponse:
        """Answer slowly."""
        await asyncio.sleep(SECONDS_A_STAT * len(request.objects))
        return storage.StatObjectsResponse(
            objects=[
                storage.ObjectStat(
                    object=reference,
                    exists=reference.cache_key != KEYS[-1].hex(),
                    etag=reference.cache_key[-4:],
                    size_bytes=9,
                )
                for reference in request.objects
            ]
        )


@pytest.fixture
async def client() -> AsyncIterator[StorageClient]:
    """A client that waits a second for each answer."""
    server = grpc.aio.server()
    storage_service_pb2_grpc.add_StorageServiceServicer_to_server(SlowStorage(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        aiohttp.ClientSession() as http,
    ):
        yield StorageClient(channel, http, timeout=1)
    await server.stop(None)


async def test_many_parts_are_found_in_their_order(client: StorageClient) -> None:
    wanted = [*KEYS[:-1], KEYS[0]]
    parts = await client.parts("anna", wanted)
    assert [part.etag for part in parts] == [key.hex()[-4:] for key in wanted]


async def test_part_that_is_not_there_is_named(client: StorageClient) -> None:
    with pytest.raises(PartMissing) as missing:
        await client.parts("anna", KEYS)
    assert missing.value.keys == (KEYS[-1],)


async def test_latest_version_of_a_part_is_asked_for_anew(client: StorageClient) -> None:
    [part] = await client.parts("anna", KEYS[:1])
    assert part.latest is not None
    assert (await part.latest()).etag == part.etag
