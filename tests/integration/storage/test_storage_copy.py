"""Parts for later exports, and copies within a real S3 server."""

from __future__ import annotations

import asyncio

import aiohttp
import grpc
import pytest
from storage_rig import ANN, BOB, BUCKET, SOURCE_BUCKET, Server, Service, refused, s3_object, stored

from videoexport.v1 import export_pb2
from videoexport.v1 import storage_service_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = "0123456789abcdef" * 4
PART = pb.ObjectRef(cache_key=KEY)
RUN = "run_" + "1" * 32
OUTPUT = pb.ObjectRef(export_output=pb.ExportOutput(export_id="exp_" + "1" * 32, run_id=RUN))


async def part(storage: Service, http: aiohttp.ClientSession, body: bytes) -> pb.ObjectStat:
    """Store a part of Ann's."""
    request = pb.CreateUploadRequest(cache_key=KEY, size_bytes=len(body))
    return await stored(storage, http, request, body)


async def test_part_is_its_owners_alone(
    s3: Server, storage: Service, http: aiohttp.ClientSession
) -> None:
    kept = await part(storage, http, b"pictures")
    assert kept.object == PART
    assert s3.keys("cache/ann/") == [f"cache/ann/{KEY}"]
    request = pb.StatObjectsRequest(objects=[PART])
    assert (await storage.stub.StatObjects(request, metadata=ANN)).objects[0].exists
    assert not (await storage.stub.StatObjects(request, metadata=BOB)).objects[0].exists


async def test_copy_has_the_bytes_and_leaves_the_original(
    s3: Server, storage: Service, http: aiohttp.ClientSession
) -> None:
    body = bytes(range(256)) * (40 << 10)  # more than is copied in one piece
    await part(storage, http, body)
    request = pb.CopyObjectRequest(object=PART, target=OUTPUT)
    for _ in range(2):
        answer = await storage.stub.CopyObject(request, metadata=ANN)
        assert (answer.object.object, answer.object.size_bytes) == (OUTPUT, len(body))
    signed = await storage.stub.SignDownload(pb.SignDownloadRequest(object=OUTPUT), metadata=ANN)
    async with http.get(signed.url) as response:
        assert await response.read() == body
    assert s3.keys("cache/ann/") == [f"cache/ann/{KEY}"]


async def test_copy_onto_itself_makes_it_new_and_changes_nothing_else(
    s3: Server, storage: Service, http: aiohttp.ClientSession
) -> None:
    before = await part(storage, http, b"pictures")
    was = s3.client.head_object(Bucket=BUCKET, Key=f"cache/ann/{KEY}")
    await asyncio.sleep(1.1)  # S3 tells times in seconds
    request = pb.CopyObjectRequest(object=PART, target=PART)
    after = (await storage.stub.CopyObject(request, metadata=ANN)).object
    assert after.update_time.ToSeconds() > before.update_time.ToSeconds()
    now = s3.client.head_object(Bucket=BUCKET, Key=f"cache/ann/{KEY}")
    for name in ("ContentLength", "ContentType", "Metadata"):
        assert now[name] == was[name]  # type: ignore[literal-required]


async def test_copy_of_another_users_object_is_not_found(
    storage: Service, http: aiohttp.ClientSession
) -> None:
    await part(storage, http, b"pictures")
    for target in (OUTPUT, PART):
        with refused() as refusal:
            request = pb.CopyObjectRequest(object=PART, target=target)
            await storage.stub.CopyObject(request, metadata=BOB)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "OBJECT_NOT_FOUND")


async def test_copy_from_or_to_other_buckets_is_refused(storage: Service) -> None:
    foreign = s3_object(SOURCE_BUCKET, "in.mov")
    mine = pb.ObjectRef(source=export_pb2.Source(video_id="vid_" + "1" * 32))
    for request, field in (
        (pb.CopyObjectRequest(object=foreign, target=OUTPUT), "object.source.s3_object"),
        (pb.CopyObjectRequest(object=mine, target=foreign), "target.source.s3_object"),
        (pb.CopyObjectRequest(target=OUTPUT), "object"),
    ):
        with refused() as refusal:
            await storage.stub.CopyObject(request, metadata=ANN)
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert field in refusal.fields
