"""A real S3 server and the real storage service in front of it, for tests to start and stop."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import boto3
import grpc
import pytest
from botocore.config import Config
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from services.local.credentials import Credentials
from services.local.ports import LOOPBACK, PortBook
from services.local.s3 import S3Part
from services.local.supervisor import Supervisor
from services.storage.__main__ import SERVICE, run
from services.storage.settings import SMALLEST_PART, StorageSettings
from videoexport.channel import call_metadata, open_channel
from videoexport.v1 import export_pb2
from videoexport.v1 import storage_service_pb2 as pb
from videoexport.v1.storage_service_pb2_grpc import StorageServiceStub

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from videoexport.v1.storage_service_pb2_grpc import StorageServiceAsyncStub

BUCKET = "videoexport"
SOURCE_BUCKET = "shared-sources"
OTHER_BUCKET = "somebody-elses"

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
NOT_THERE = HealthCheckResponse.UNKNOWN

PART = SMALLEST_PART

ANN = call_metadata("ann")
BOB = call_metadata("bob")


@dataclass(frozen=True)
class Server:
    """An S3 server with its data directory and the ports it may use."""

    part: S3Part
    supervisor: Supervisor
    ports: PortBook
    credentials: Credentials
    client: S3Client = field(init=False)

    def __post_init__(self) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=self.part.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.credentials.s3_access_key,
            aws_secret_access_key=self.credentials.s3_secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        object.__setattr__(self, "client", client)

    def settings(self, name: str, **changes: object) -> StorageSettings:
        """Return settings of a service on this server, with ports under `name`."""
        values = {
            "listen_port": self.ports.port(f"{name}.grpc"),
            "metrics_port": self.ports.port(f"{name}.metrics"),
            "drain_seconds": 2,
            "s3_endpoint": self.part.endpoint,
            "s3_access_key": self.credentials.s3_access_key,
            "s3_secret_key": self.credentials.s3_secret_key,
            "bucket": BUCKET,
            "source_buckets": [SOURCE_BUCKET],
            "part_size_bytes": PART,
        }
        return StorageSettings.model_validate(values | changes)

    def unfinished(self, bucket: str = BUCKET) -> list[str]:
        """Return the keys of the unfinished uploads in a bucket."""
        listed = self.client.list_multipart_uploads(Bucket=bucket)
        return [upload["Key"] for upload in listed.get("Uploads", [])]

    def keys(self, prefix: str, bucket: str = BUCKET) -> list[str]:
        """Return the keys of the objects under a prefix."""
        listed = self.client.list_objects_v2(Bucket=bucket, Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", [])]


@dataclass(frozen=True)
class Service:
    """A running storage service as its callers see it."""

    settings: StorageSettings
    channel: grpc.aio.Channel
    stub: StorageServiceAsyncStub = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stub", StorageServiceStub(self.channel))

    async def health(self) -> int:
        """Return the serving status; NOT_THERE while nothing listens."""
        check = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        try:
            answer = await check(HealthCheckRequest(service=SERVICE), timeout=2)
        except AioRpcError:
            return NOT_THERE
        return int(answer.status)

    async def metrics(self) -> dict[str, float]:
        """Return the samples of /metrics by name and labels."""
        url = f"http://{LOOPBACK}:{self.settings.metrics_port}/metrics"
        async with aiohttp.request("GET", url) as response:
            lines = (await response.text()).splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def until(self, status: int) -> None:
        """Wait until health says `status`."""
        async with asyncio.timeout(20):
            while await self.health() != status:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def service_running(settings: StorageSettings) -> AsyncIterator[Service]:
    """Run the service in this process, from its own entry point."""
    stop = asyncio.Event()
    running = asyncio.create_task(run(settings, stop))
    channel = open_channel(f"{LOOPBACK}:{settings.listen_port}")
    try:
        yield Service(settings, channel)
    finally:
        await channel.close()
        stop.set()
        await running


@asynccontextmanager
async def server_running() -> AsyncIterator[Server]:
    """Run an S3 server with empty data."""
    with tempfile.TemporaryDirectory(prefix="videoexport-s3-") as name:
        directory = Path(name)
        ports = PortBook(directory / "ports.json")
        credentials = Credentials.load(directory / "secrets.json")
        logs = directory / "logs"
        logs.mkdir()
        part = S3Part(directory / "s3", ports, logs, credentials)
        supervisor = Supervisor(directory, notify=lambda _: None)
        await supervisor.open()
        try:
            await supervisor.start(part)
            yield Server(part, supervisor, ports, credentials)
        finally:
            await supervisor.close()


@dataclass
class Refusal:
    """How a call was refused; filled in when the block of `refused` ends."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    message: str = ""
    fields: list[str] = field(default_factory=list)


@contextmanager
def refused() -> Iterator[Refusal]:
    """Expect the call in the block to be refused, and read the error's details."""
    refusal = Refusal()
    with pytest.raises(AioRpcError) as caught:
        yield refusal
    refusal.code = caught.value.code()
    refusal.message = caught.value.details() or ""
    for key, value in caught.value.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            _read_details(refusal, status_pb2.Status.FromString(value))


def _read_details(refusal: Refusal, status: status_pb2.Status) -> None:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(info):
            refusal.reason = info.reason
        if detail.Unpack(bad):
            refusal.fields = [violation.field for violation in bad.field_violations]


def source_upload(size: int, file_name: str = "clip.mov") -> pb.CreateUploadRequest:
    """Return a request to upload a source."""
    return pb.CreateUploadRequest(source=pb.SourceUpload(file_name=file_name), size_bytes=size)


def s3_object(bucket: str, key: str) -> pb.ObjectRef:
    """Return the name of an object in any bucket."""
    named = export_pb2.S3Object(bucket=bucket, key=key)
    return pb.ObjectRef(source=export_pb2.Source(s3_object=named))


def pieces(body: bytes, size: int) -> list[bytes]:
    """Return the body in parts."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def completion(begun: pb.CreateUploadResponse, parts: list[bytes]) -> pb.CompleteUploadRequest:
    """Return what announces these parts."""
    return pb.CompleteUploadRequest(
        upload=begun.upload,
        parts=[
            pb.UploadedPart(part_number=number, md5=hashlib.md5(part).hexdigest())
            for number, part in enumerate(parts, 1)
        ],
        size_bytes=sum(map(len, parts)),
        sha256=hashlib.sha256(b"".join(parts)).hexdigest(),
    )


async def put(
    http: aiohttp.ClientSession, url: str, body: bytes, md5_of: bytes | None = None
) -> int:
    """Send a part, with the digest of `md5_of` if that differs, and return S3's status."""
    digest = hashlib.md5(body if md5_of is None else md5_of).digest()
    headers = {"Content-MD5": b64encode(digest).decode()}
    async with http.put(url, data=BytesIO(body), headers=headers) as response:
        return response.status


async def uploaded(
    service: Service,
    http: aiohttp.ClientSession,
    body: bytes,
    *,
    metadata: Metadata = ANN,
    file_name: str = "clip.mov",
) -> pb.ObjectStat:
    """Upload a source by hand and return it."""
    return await stored(service, http, source_upload(len(body), file_name), body, metadata=metadata)


async def stored(
    service: Service,
    http: aiohttp.ClientSession,
    request: pb.CreateUploadRequest,
    body: bytes,
    *,
    metadata: Metadata = ANN,
) -> pb.ObjectStat:
    """Upload an object by hand and return it."""
    begun = await service.stub.CreateUpload(request, metadata=metadata)
    parts = pieces(body, begun.part_size_bytes)
    for part, url in zip(parts, begun.parts, strict=True):
        assert await put(http, url.url, part) == 200
    answer = await service.stub.CompleteUpload(completion(begun, parts), metadata=metadata)
    return answer.object
