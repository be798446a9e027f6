"""Stat, signed downloads and deletion against a real S3 server, for two users."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import aiohttp
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry
from storage_rig import (
    ANN,
    BOB,
    BUCKET,
    OTHER_BUCKET,
    SOURCE_BUCKET,
    Server,
    Service,
    completion,
    refused,
    s3_object,
    source_upload,
    stored,
    uploaded,
)

from services.storage.keys import Keys
from services.storage.metrics import StorageMetrics
from services.storage.objects import Objects
from services.storage.requests import Download
from services.storage.s3 import S3
from videoexport.v1 import export_pb2
from videoexport.v1 import storage_service_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")

MISSING = pb.ObjectRef(source=export_pb2.Source(video_id="vid_" + "0" * 32))


@pytest.fixture
def shared(s3: Server) -> pb.ObjectRef:
    """Return a source in the allow-listed bucket."""
    s3.client.put_object(
        Bucket=SOURCE_BUCKET, Key="in/ü b.mov", Body=b"shared", Metadata={"file-name": "x%0Ay"}
    )
    return s3_object(SOURCE_BUCKET, "in/ü b.mov")


async def test_stat_answers_in_order_and_marks_what_is_missing(
    storage: Service, http: aiohttp.ClientSession, shared: pb.ObjectRef
) -> None:
    mine = await uploaded(storage, http, b"abc", file_name="a.mov")
    request = pb.StatObjectsRequest(objects=[MISSING, mine.object, shared, mine.object])
    answer = (await storage.stub.StatObjects(request, metadata=ANN)).objects
    assert [stat.object for stat in answer] == list(request.objects)
    assert [stat.exists for stat in answer] == [False, True, True, True]
    assert answer[0] == pb.ObjectStat(object=MISSING)
    assert (answer[1].size_bytes, answer[1].etag, answer[1].file_name) == (3, mine.etag, "a.mov")
    assert (answer[2].size_bytes, answer[2].file_name) == (6, "")


async def test_stat_of_a_thousand_objects(storage: Service, http: aiohttp.ClientSession) -> None:
    mine = await uploaded(storage, http, b"abc")
    request = pb.StatObjectsRequest(objects=[mine.object, MISSING] * 500)
    answer = (await storage.stub.StatObjects(request, metadata=ANN)).objects
    assert [stat.exists for stat in answer] == [True, False] * 500


async def test_objects_of_another_user_are_not_there(
    s3: Server, storage: Service, http: aiohttp.ClientSession
) -> None:
    mine = await uploaded(storage, http, b"abc")
    stat = await storage.stub.StatObjects(
        pb.StatObjectsRequest(objects=[mine.object]), metadata=BOB
    )
    assert not stat.objects[0].exists
    with refused() as refusal:
        await storage.stub.SignDownload(pb.SignDownloadRequest(object=mine.object), metadata=BOB)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SOURCE_NOT_FOUND")
    await storage.stub.DeleteObjects(pb.DeleteObjectsRequest(objects=[mine.object]), metadata=BOB)
    assert s3.keys(f"videos/ann/{mine.object.source.video_id}")


@pytest.mark.parametrize("bucket", [BUCKET, OTHER_BUCKET, "no-such-bucket"])
async def test_bucket_off_the_list_is_refused(
    storage: Service, http: aiohttp.ClientSession, bucket: str
) -> None:
    mine = await uploaded(storage, http, b"abc")
    named = s3_object(bucket, f"videos/ann/{mine.object.source.video_id}")
    with refused() as refusal:
        await storage.stub.StatObjects(pb.StatObjectsRequest(objects=[named]), metadata=ANN)
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "BUCKET_NOT_ALLOWED",
    )
    with refused() as refusal:
        await storage.stub.SignDownload(pb.SignDownloadRequest(object=named), metadata=ANN)
    assert refusal.reason == "BUCKET_NOT_ALLOWED"


@pytest.mark.parametrize(
    "key", [f"../{BUCKET}/videos/ann/x", "a/../../b", "..", "in/./ü b.mov", "a\x00b", "x" * 1025]
)
async def test_key_that_leaves_its_bucket_is_refused(storage: Service, key: str) -> None:
    request = pb.SignDownloadRequest(object=s3_object(SOURCE_BUCKET, key))
    with refused() as refusal:
        await storage.stub.SignDownload(request, metadata=ANN)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields == ["object.source.s3_object.key"]


async def test_download_url_gives_the_object(
    storage: Service, http: aiohttp.ClientSession, shared: pb.ObjectRef
) -> None:
    mine = await uploaded(storage, http, b"abc")
    for ref, body in ((mine.object, b"abc"), (shared, b"shared")):
        signed = await storage.stub.SignDownload(pb.SignDownloadRequest(object=ref), metadata=ANN)
        async with http.get(signed.url) as response:
            assert await response.read() == body
            assert "Content-Disposition" not in response.headers
        left = signed.expire_time.ToDatetime(UTC) - datetime.now(UTC)
        assert timedelta(minutes=59) < left <= timedelta(hours=1)


async def test_download_url_saves_under_the_name_and_for_the_time_asked_for(
    storage: Service, http: aiohttp.ClientSession
) -> None:
    mine = await uploaded(storage, http, b"abc")
    request = pb.SignDownloadRequest(
        object=mine.object, file_name='Füße "1" 100%.mp4', lifetime=Duration(seconds=90)
    )
    signed = await storage.stub.SignDownload(request, metadata=ANN)
    assert "X-Amz-Expires=90" in signed.url
    async with http.get(signed.url) as response:
        assert response.content_disposition is not None
        assert response.content_disposition.type == "attachment"
        assert response.content_disposition.filename == 'Füße "1" 100%.mp4'
        # A source is never run by a browser, whatever it holds.
        assert response.content_type == "application/octet-stream"


async def test_download_url_opens_nothing_else(
    storage: Service, http: aiohttp.ClientSession
) -> None:
    mine = await uploaded(storage, http, b"abc")
    other = await uploaded(storage, http, b"def")
    signed = await storage.stub.SignDownload(
        pb.SignDownloadRequest(object=mine.object), metadata=ANN
    )
    elsewhere = signed.url.replace(mine.object.source.video_id, other.object.source.video_id)
    for attempt in (http.get(elsewhere), http.put(signed.url, data=b"x"), http.delete(signed.url)):
        async with attempt as response:
            assert response.status == 403


async def test_download_url_expires(
    s3: Server, storage: Service, http: aiohttp.ClientSession
) -> None:
    mine = await uploaded(storage, http, b"abc")
    location = Keys(BUCKET, []).locate(mine.object, "ann", "object", [])
    assert location is not None
    client = S3(storage.settings, StorageMetrics(CollectorRegistry()))
    # Below what requests may ask for, so that the test need not wait for a minute.
    wanted = Download(location, "", timedelta(seconds=1))
    signed = await Objects(client, BUCKET).sign_download(wanted)
    client.close()
    async with http.get(signed.url) as response:
        assert response.status == 200
    await asyncio.sleep(2.1)
    async with http.get(signed.url) as response:
        assert response.status == 403


async def test_missing_objects_are_named(storage: Service) -> None:
    output = pb.ExportOutput(export_id="exp_" + "9" * 32, run_id="run_" + "9" * 32)
    for ref, reason, name in (
        (MISSING, "SOURCE_NOT_FOUND", MISSING.source.video_id),
        (s3_object(SOURCE_BUCKET, "none.mov"), "SOURCE_NOT_FOUND", "s3://shared-sources/none.mov"),
        (pb.ObjectRef(export_output=output), "OBJECT_NOT_FOUND", output.export_id),
    ):
        with refused() as refusal:
            await storage.stub.SignDownload(pb.SignDownloadRequest(object=ref), metadata=ANN)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, reason)
        assert name in refusal.message


async def test_delete_removes_and_counts_missing_objects_too(
    s3: Server, storage: Service, http: aiohttp.ClientSession
) -> None:
    first = await uploaded(storage, http, b"abc")
    second = await uploaded(storage, http, b"abc")
    kept = await uploaded(storage, http, b"abc")
    request = pb.DeleteObjectsRequest(objects=[first.object, second.object, MISSING, first.object])
    for _ in range(2):
        answer = await storage.stub.DeleteObjects(request, metadata=ANN)
        assert answer.deleted_count == 3
    left = s3.keys("videos/ann/")
    assert not any(key.endswith(first.object.source.video_id) for key in left)
    assert not any(key.endswith(second.object.source.video_id) for key in left)
    assert any(key.endswith(kept.object.source.video_id) for key in left)


@pytest.mark.parametrize(("kind", "left"), [("preview_id", 0), ("cache_key", 1)])
async def test_finished_upload_drops_those_whose_answer_was_lost_where_nobody_else_sends(
    s3: Server, storage: Service, http: aiohttp.ClientSession, kind: str, left: int
) -> None:
    name = f"prv_{uuid4().hex}" if kind == "preview_id" else uuid4().hex * 2
    request = pb.CreateUploadRequest(size_bytes=3, **{kind: name})
    lost, begun = [await storage.stub.CreateUpload(request, metadata=ANN) for _ in range(2)]
    async with http.put(begun.parts[0].url, data=b"abc") as answer:
        assert answer.status == 200
    await storage.stub.CompleteUpload(completion(begun, [b"abc"]), metadata=ANN)
    assert sum(name in key for key in s3.unfinished()) == left
    await storage.stub.AbortUpload(pb.AbortUploadRequest(upload=lost.upload), metadata=ANN)


async def test_delete_drops_unfinished_uploads_to_the_objects_and_no_others(
    s3: Server, storage: Service, http: aiohttp.ClientSession
) -> None:
    begun = [await storage.stub.CreateUpload(source_upload(3), metadata=ANN) for _ in range(3)]
    for upload in begun:
        async with http.put(upload.parts[0].url, data=b"abc") as answer:
            assert answer.status == 200
    finished = await uploaded(storage, http, b"abc")
    output = pb.ObjectRef(preview_id=f"prv_{uuid4().hex}")
    objects = [begun[0].upload.object, begun[1].upload.object, finished.object, output]
    await storage.stub.DeleteObjects(pb.DeleteObjectsRequest(objects=objects), metadata=ANN)
    keys = s3.unfinished()
    for upload, kept in zip(begun, (False, False, True), strict=True):
        key = f"videos/ann/{upload.upload.object.source.video_id}"
        assert (key in keys) == kept
    # They cannot become objects any more.
    with refused() as refusal:
        await storage.stub.CompleteUpload(completion(begun[0], [b"abc"]), metadata=ANN)
    assert refusal.reason == "UPLOAD_NOT_FOUND"
    await storage.stub.AbortUpload(pb.AbortUploadRequest(upload=begun[2].upload), metadata=ANN)


async def test_delete_touches_no_allow_listed_bucket(
    s3: Server, storage: Service, http: aiohttp.ClientSession, shared: pb.ObjectRef
) -> None:
    mine = await uploaded(storage, http, b"abc")
    request = pb.DeleteObjectsRequest(objects=[mine.object, shared])
    with refused() as refusal:
        await storage.stub.DeleteObjects(request, metadata=ANN)
    assert refusal.fields == ["objects[1].source.s3_object"]
    assert s3.keys("in/", bucket=SOURCE_BUCKET) == ["in/ü b.mov"]
    assert s3.keys(f"videos/ann/{mine.object.source.video_id}")


async def test_metrics_count_bytes_and_requests(
    storage: Service, http: aiohttp.ClientSession
) -> None:
    name = 'videoexport_storage_uploaded_bytes_total{purpose="source"}'
    before = await storage.metrics()
    await uploaded(storage, http, b"x" * 1000)
    after = await storage.metrics()
    assert after[name] - before.get(name, 0) == 1000
    completed = 'videoexport_storage_s3_requests_total{operation="complete_upload",result="ok"}'
    assert after[completed] - before.get(completed, 0) == 1
    seconds = 'videoexport_storage_s3_duration_seconds_count{operation="complete_upload"}'
    assert after[seconds] - before.get(seconds, 0) == 1


@pytest.mark.parametrize("form", [export_pb2.FORMAT_MP4, export_pb2.FORMAT_WEBM])
async def test_output_is_told_as_what_it_is_and_deleted_by_its_run_alone(
    s3: Server, storage: Service, http: aiohttp.ClientSession, form: export_pb2.Format.ValueType
) -> None:
    output = pb.ExportOutput(export_id="exp_" + "4" * 32, run_id="run_" + "4" * 32, format=form)
    request = pb.CreateUploadRequest(export_output=output, size_bytes=3)
    made = await stored(storage, http, request, b"abc")
    suffix = {export_pb2.FORMAT_MP4: "mp4", export_pb2.FORMAT_WEBM: "webm"}[form]
    prefix = f"exports/ann/{output.export_id}/"
    assert s3.keys(prefix) == [f"{prefix}{output.run_id}.{suffix}"]
    signed = await storage.stub.SignDownload(
        pb.SignDownloadRequest(object=made.object), metadata=ANN
    )
    async with http.get(signed.url) as response:
        assert response.content_type == f"video/{suffix}"
        assert await response.read() == b"abc"
    # As a row of before names it.
    named = pb.ExportOutput(export_id=output.export_id, run_id=output.run_id)
    answer = await storage.stub.DeleteObjects(
        pb.DeleteObjectsRequest(objects=[pb.ObjectRef(export_output=named)]), metadata=ANN
    )
    assert answer.deleted_count == 1
    assert s3.keys(prefix) == []
