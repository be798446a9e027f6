"""A service with few rights on its bucket serves all the same, and says what it lacks."""

from __future__ import annotations

import hashlib
from uuid import uuid4

import aiohttp
import pytest
from denying_proxy import STATUSES, denying_proxy
from storage_rig import (
    ANN,
    SERVING,
    Server,
    completion,
    refused,
    service_running,
    source_upload,
    uploaded,
)
from structlog.testing import capture_logs

from services.storage.buckets import RULES
from videoexport.v1 import storage_service_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")

NO_RULES = "lifecycle rules are not set up"
NO_TAGS = "objects are not tagged with their sha256"
THEIRS = {
    "ID": "theirs",
    "Status": "Enabled",
    "Filter": {"Prefix": "theirs/"},
    "Expiration": {"Days": 3},
}


@pytest.mark.parametrize("code", STATUSES)
@pytest.mark.parametrize("denied", ["GET lifecycle", "PUT lifecycle"])
async def test_rules_that_may_not_be_set_are_a_warning(s3: Server, code: str, denied: str) -> None:
    bucket = f"bucket-{uuid4().hex}"
    s3.client.create_bucket(Bucket=bucket)
    s3.client.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration={"Rules": [THEIRS]},  # type: ignore[list-item]
    )
    async with denying_proxy(s3.part.endpoint) as proxy:
        proxy.code, proxy.denied = code, {denied}
        settings = s3.settings("few-rights", bucket=bucket, s3_endpoint=proxy.endpoint)
        with capture_logs() as logs:
            async with service_running(settings) as service:
                await service.until(SERVING)
        assert proxy.asked[denied] > 0
        # Without having read them, rules of the operators must not be written over.
        assert ("PUT lifecycle" in proxy.asked) == (denied == "PUT lifecycle")
    (warning,) = [entry for entry in logs if entry["event"] == NO_RULES]
    assert (warning["log_level"], warning["cause"]) == ("warning", code)
    stored = s3.client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert [rule["ID"] for rule in stored] == ["theirs"]


async def test_rules_that_are_there_are_not_written_again(s3: Server) -> None:
    bucket = f"bucket-{uuid4().hex}"
    s3.client.create_bucket(Bucket=bucket)
    async with denying_proxy(s3.part.endpoint) as proxy:
        settings = s3.settings("few-rights", bucket=bucket, s3_endpoint=proxy.endpoint)
        writes = []
        for changed in (False, False, True):
            if changed:
                s3.client.put_bucket_lifecycle_configuration(
                    Bucket=bucket, LifecycleConfiguration={"Rules": RULES[1:]}
                )
            async with service_running(settings) as service:
                await service.until(SERVING)
            writes.append(proxy.asked["PUT lifecycle"])
    assert writes == [1, 1, 2]


@pytest.mark.parametrize("code", STATUSES)
async def test_upload_completes_where_tags_are_refused(
    s3: Server, http: aiohttp.ClientSession, code: str
) -> None:
    async with denying_proxy(s3.part.endpoint) as proxy:
        proxy.code, proxy.denied = code, {"PUT tagging"}
        settings = s3.settings(
            "few-rights", s3_endpoint=proxy.endpoint, public_s3_endpoint=s3.part.endpoint
        )
        with capture_logs() as logs:
            async with service_running(settings) as service:
                await service.until(SERVING)
                for body in (b"one", b"two"):
                    begun = await service.stub.CreateUpload(source_upload(len(body)), metadata=ANN)
                    async with http.put(begun.parts[0].url, data=body) as answer:
                        assert answer.status == 200
                    complete = completion(begun, [body])
                    complete.sha256 = hashlib.sha256(body).hexdigest()
                    done = await service.stub.CompleteUpload(complete, metadata=ANN)
                    assert done.object.size_bytes == len(body)
        assert proxy.asked["PUT tagging"] == 2
    assert [entry["cause"] for entry in logs if entry["event"] == NO_TAGS] == [code]


@pytest.mark.parametrize("code", STATUSES)
async def test_objects_are_deleted_where_uploads_may_not_be_listed(
    s3: Server, http: aiohttp.ClientSession, code: str
) -> None:
    async with denying_proxy(s3.part.endpoint) as proxy:
        proxy.code, proxy.denied = code, {"GET uploads"}
        settings = s3.settings(
            "few-rights", s3_endpoint=proxy.endpoint, public_s3_endpoint=s3.part.endpoint
        )
        async with service_running(settings) as service:
            await service.until(SERVING)
            stored = await uploaded(service, http, b"abc")
            request = pb.DeleteObjectsRequest(objects=[stored.object])
            await service.stub.DeleteObjects(request, metadata=ANN)
        assert proxy.asked["GET uploads"] == 1
    assert not s3.keys(f"videos/ann/{stored.object.source.video_id}")


async def test_upload_above_the_limit_is_refused(s3: Server, http: aiohttp.ClientSession) -> None:
    settings = s3.settings("limited", max_upload_bytes=10)
    async with service_running(settings) as service:
        await service.until(SERVING)
        await uploaded(service, http, b"0123456789")
        output = pb.CreateUploadRequest(preview_id=f"prv_{uuid4().hex}", size_bytes=11)
        for request in (source_upload(11), output):
            with refused() as refusal:
                await service.stub.CreateUpload(request, metadata=ANN)
            assert (refusal.reason, refusal.fields) == ("INVALID_REQUEST", ["size_bytes"])
            assert "10 bytes" in refusal.message
