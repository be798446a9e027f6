"""Uploads against a real S3 server: checksums, isolation, idempotency, nothing left behind."""

from __future__ import annotations

import asyncio
import random

import aiohttp
import grpc
import pytest
from storage_rig import (
    ANN,
    BOB,
    BUCKET,
    PART,
    SERVING,
    Server,
    Service,
    completion,
    pieces,
    put,
    refused,
    service_running,
    source_upload,
    uploaded,
)

from services.storage.requests import MOST_PARTS
from videoexport.v1 import export_pb2
from videoexport.v1 import storage_service_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")

BODY = random.Random(1).randbytes(2 * PART + 1000)
PARTS = pieces(BODY, PART)


async def begin(storage: Service, size: int = len(BODY)) -> pb.CreateUploadResponse:
    return await storage.stub.CreateUpload(source_upload(size), metadata=ANN)


async def test_upload_is_stored_under_a_key_of_the_server(
    s3: Server, storage: Service, http: aiohttp.ClientSession
) -> None:
    stat = await uploaded(storage, http, BODY, file_name="Füße 100%.mov")
    key = f"videos/ann/{stat.object.source.video_id}"
    stored = s3.client.get_object(Bucket=BUCKET, Key=key)
    assert stored["Body"].read() == BODY
    assert stored["ContentType"] == "application/octet-stream"
    assert stored["ETag"].strip('"') == stat.etag
    tags = s3.client.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
    assert tags == [{"Key": "sha256", "Value": stat.sha256}]
    assert (stat.exists, stat.size_bytes, stat.file_name) == (True, len(BODY), "Füße 100%.mov")
    assert (
        abs(stat.update_time.ToDatetime() - stored["LastModified"].replace(tzinfo=None)).seconds
        == 0
    )


async def test_output_and_preview_are_stored_as_video(
    s3: Server, storage: Service, http: aiohttp.ClientSession
) -> None:
    output = pb.ExportOutput(export_id="exp_" + "1" * 32, run_id="run_" + "2" * 32)
    preview_id = "prv_" + "3" * 32
    requests = {
        f"exports/ann/{output.export_id}/{output.run_id}.mp4": pb.CreateUploadRequest(
            export_output=output, size_bytes=3
        ),
        f"previews/ann/{preview_id}.mp4": pb.CreateUploadRequest(
            preview_id=preview_id, size_bytes=3
        ),
    }
    for key, request in requests.items():
        begun = await storage.stub.CreateUpload(request, metadata=ANN)
        assert await put(http, begun.parts[0].url, b"abc") == 200
        await storage.stub.CompleteUpload(completion(begun, [b"abc"]), metadata=ANN)
        stored = s3.client.head_object(Bucket=BUCKET, Key=key)
        assert stored["ContentType"] == "video/mp4"


async def test_damaged_part_is_refused_by_s3(storage: Service, http: aiohttp.ClientSession) -> None:
    begun = await begin(storage)
    damaged = b"\0" + PARTS[0][1:]
    assert await put(http, begun.parts[0].url, damaged, md5_of=PARTS[0]) == 400
    assert await put(http, begun.parts[0].url, PARTS[0]) == 200


async def test_url_takes_only_its_part_and_its_length(
    storage: Service, http: aiohttp.ClientSession
) -> None:
    begun = await begin(storage)
    url = begun.parts[0].url
    assert await put(http, url, PARTS[0] + b"x") == 403
    assert await put(http, url, PARTS[0][:-1]) == 403
    assert await put(http, url.replace("partNumber=1", "partNumber=2"), PARTS[0]) == 403
    assert await put(http, url.replace("/videos/ann/", "/videos/bob/"), PARTS[0]) == 403


async def test_missing_and_different_parts_can_be_repaired(
    storage: Service, http: aiohttp.ClientSession
) -> None:
    begun = await begin(storage)
    announced = completion(begun, PARTS)
    await put(http, begun.parts[0].url, bytes(PART))
    with refused() as refusal:
        await storage.stub.CompleteUpload(announced, metadata=ANN)
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.reason == "UPLOAD_MISMATCH"
    assert "not stored: parts 2, 3" in refusal.message
    assert "another MD5: part 1" in refusal.message
    for part, url in zip(PARTS, begun.parts, strict=True):
        assert await put(http, url.url, part) == 200
    answer = await storage.stub.CompleteUpload(announced, metadata=ANN)
    assert answer.object.size_bytes == len(BODY)


async def test_part_sent_again_with_other_bytes_counts_as_announced(
    s3: Server, storage: Service, http: aiohttp.ClientSession
) -> None:
    begun = await begin(storage)
    await put(http, begun.parts[1].url, bytes(PART))
    for part, url in zip(PARTS, begun.parts, strict=True):
        await put(http, url.url, part)
    await put(http, begun.parts[0].url, PARTS[0])
    stat = (await storage.stub.CompleteUpload(completion(begun, PARTS), metadata=ANN)).object
    key = f"videos/ann/{stat.object.source.video_id}"
    assert s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == BODY


async def test_wrong_size_is_a_mismatch(storage: Service, http: aiohttp.ClientSession) -> None:
    begun = await begin(storage, 3)
    await put(http, begun.parts[0].url, b"abc")
    announced = completion(begun, [b"abc"])
    announced.size_bytes = 4
    with refused() as refusal:
        await storage.stub.CompleteUpload(announced, metadata=ANN)
    assert refusal.reason == "UPLOAD_MISMATCH"
    assert "3 bytes, 4 were announced" in refusal.message


async def test_completing_again_returns_the_object_again(
    storage: Service, http: aiohttp.ClientSession
) -> None:
    begun = await begin(storage)
    for part, url in zip(PARTS, begun.parts, strict=True):
        await put(http, url.url, part)
    announced = completion(begun, PARTS)
    first, second = await asyncio.gather(
        storage.stub.CompleteUpload(announced, metadata=ANN),
        storage.stub.CompleteUpload(announced, metadata=ANN),
    )
    third = await storage.stub.CompleteUpload(announced, metadata=ANN)
    assert first.object.etag == second.object.etag == third.object.etag
    other = completion(begun, [b"abc"])
    with refused() as refusal:
        await storage.stub.CompleteUpload(other, metadata=ANN)
    assert refusal.reason == "UPLOAD_NOT_FOUND"


async def test_abort_leaves_no_part_and_ends_the_urls(
    s3: Server, storage: Service, http: aiohttp.ClientSession
) -> None:
    begun = await begin(storage)
    await put(http, begun.parts[0].url, PARTS[0])
    key = f"videos/ann/{begun.upload.object.source.video_id}"
    assert key in s3.unfinished()
    for _ in range(2):
        await storage.stub.AbortUpload(pb.AbortUploadRequest(upload=begun.upload), metadata=ANN)
    assert key not in s3.unfinished()
    assert await put(http, begun.parts[0].url, PARTS[0]) == 404
    with refused() as refusal:
        await storage.stub.CompleteUpload(completion(begun, PARTS), metadata=ANN)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND")


async def test_upload_of_another_user_cannot_be_touched(
    storage: Service, http: aiohttp.ClientSession
) -> None:
    begun = await begin(storage, 3)
    await put(http, begun.parts[0].url, b"abc")
    with refused() as refusal:
        await storage.stub.CompleteUpload(completion(begun, [b"abc"]), metadata=BOB)
    assert refusal.reason == "UPLOAD_NOT_FOUND"
    await storage.stub.AbortUpload(pb.AbortUploadRequest(upload=begun.upload), metadata=BOB)
    answer = await storage.stub.CompleteUpload(completion(begun, [b"abc"]), metadata=ANN)
    assert answer.object.exists


async def test_upload_urls_expire(s3: Server, http: aiohttp.ClientSession) -> None:
    # Shorter than settings allow, so that the test need not wait for a minute.
    settings = s3.settings("short").model_copy(update={"upload_url_seconds": 1})
    async with service_running(settings) as service:
        request = source_upload(3)
        begun = await service.stub.CreateUpload(request, metadata=ANN, wait_for_ready=True)
        assert await put(http, begun.parts[0].url, b"abc") == 200
        await asyncio.sleep(2.1)
        assert await put(http, begun.parts[0].url, b"abc") == 403
        await service.stub.AbortUpload(pb.AbortUploadRequest(upload=begun.upload), metadata=ANN)


async def test_largest_upload_has_all_its_urls_in_one_answer(s3: Server) -> None:
    settings = s3.settings("largest", max_upload_bytes=5 * 1024**4)
    async with service_running(settings) as service:
        await service.until(SERVING)
        begun = await service.stub.CreateUpload(source_upload(5 * 1024**4), metadata=ANN)
        await service.stub.AbortUpload(pb.AbortUploadRequest(upload=begun.upload), metadata=ANN)
    assert [part.part_number for part in begun.parts] == list(range(1, MOST_PARTS + 1))
    assert begun.part_size_bytes * MOST_PARTS == 5 * 1024**4
    assert begun.ByteSize() < 1024 * 1024


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.CreateUploadRequest(), ["purpose", "size_bytes"]),
        (source_upload(1, "../../bob/a.mov"), ["source.file_name"]),
        (source_upload(1, "a\x1b[2J.mov"), ["source.file_name"]),
        (source_upload(1, "x" * 256), ["source.file_name"]),
        (
            pb.CreateUploadRequest(
                export_output=pb.ExportOutput(export_id="../exp", run_id=""), size_bytes=1
            ),
            ["export_output.export_id", "export_output.run_id"],
        ),
    ],
)
async def test_bad_upload_is_refused_with_every_field(
    storage: Service, request_: pb.CreateUploadRequest, fields: list[str]
) -> None:
    with refused() as refusal:
        await storage.stub.CreateUpload(request_, metadata=ANN)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "INVALID_REQUEST"
    assert refusal.fields == fields


async def test_details_of_every_bad_part_reach_the_caller(storage: Service) -> None:
    video = pb.ObjectRef(source=export_pb2.Source(video_id="vid_" + "0" * 32))
    bad = pb.CompleteUploadRequest(
        upload=pb.UploadRef(object=video, upload_id="x"),
        parts=[pb.UploadedPart() for _ in range(MOST_PARTS)],
        size_bytes=1,
    )
    with refused() as refusal:
        await storage.stub.CompleteUpload(bad, metadata=ANN)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(refusal.fields) == 2 * MOST_PARTS


@pytest.mark.parametrize(
    ("metadata", "code", "reason"),
    [
        ([], grpc.StatusCode.UNAUTHENTICATED, "USER_REQUIRED"),
        ([("videoexport-user", "../bob")], grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ([("videoexport-user", "a/b")], grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ([("videoexport-user", "")], grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    ],
)
async def test_call_without_a_good_user_is_refused(
    storage: Service, metadata: list[tuple[str, str]], code: grpc.StatusCode, reason: str
) -> None:
    with refused() as refusal:
        await storage.stub.CreateUpload(source_upload(1), metadata=metadata)
    assert (refusal.code, refusal.reason) == (code, reason)
