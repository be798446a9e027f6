"""The whole API service in this process, on real servers, with the test as its encoder."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import aiohttp
import grpc
import pytest
from api_rig import INFO, OUTPUT, Rig
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr

from services.api.service import SERVICE_NAME, run
from services.api.settings import ApiSettings
from services.api.store.records import source_key
from services.common.content_key import RECIPE_VERSION
from services.common.nats import connect, ensure_topology, first_connection, publish_durably
from services.common.status import DETAILS_KEY
from services.common.stills import files_of
from services.common.subjects import TASKS_STREAM, Lane, events_subject
from services.local.infra import Infrastructure
from services.local.services import ServicePart
from videoexport.channel import call_metadata, open_channel
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub
from videoexport.v1.storage_service_pb2_grpc import StorageServiceStub

if TYPE_CHECKING:
    from videoexport.v1.export_service_pb2_grpc import ExportServiceAsyncStub
    from videoexport.v1.storage_service_pb2_grpc import StorageServiceAsyncStub

M = TypeVar("M", bound=Message)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ANNA, BEN = call_metadata("anna"), call_metadata("ben")


@dataclass(frozen=True)
class Surroundings:
    """What an API service stands on."""

    infrastructure: Infrastructure
    database: str
    storage: ServicePart


class Api:
    """One running service and a channel to it."""

    def __init__(
        self, settings: ApiSettings, service: asyncio.Task[None], stop: asyncio.Event
    ) -> None:
        self.address = f"127.0.0.1:{settings.listen_port}"
        self.metrics_address = f"127.0.0.1:{settings.metrics_port}"
        self._service = service
        self._stop = stop

    def use(self, channel: grpc.aio.Channel) -> None:
        """Call the service through a channel."""
        self.channel = channel
        self.exports: ExportServiceAsyncStub = ExportServiceStub(channel)

    async def stop(self) -> None:
        """Tell the service to end, and wait until it has."""
        assert not self._service.done(), self._service
        self._stop.set()
        async with asyncio.timeout(15):
            await self._service

    async def health(self, service: str = SERVICE_NAME) -> int:
        """Return what the health service says; UNKNOWN where nobody answers."""
        check = health_pb2_grpc.HealthStub(self.channel).Check  # type: ignore[attr-defined]
        try:
            answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=2)
        except AioRpcError:
            return int(health_pb2.HealthCheckResponse.UNKNOWN)
        return int(answer.status)

    async def until(self, health: int, *names: str) -> None:
        """Wait until the service says that it is so, by these names.

        By default of the service; where it is to serve also of NATS, over which it hears of
        encoders.
        """
        nats = ("dependency.nats",) if health == SERVING else ()
        async with asyncio.timeout(10):
            for name in names or (SERVICE_NAME, *nats):
                while await self.health(name) != health:
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def api_running(around: Surroundings, **changes: Any) -> AsyncIterator[Api]:
    """Run a service of its own; without quotas and with short pauses, but for what is changed.

    It may not be serving yet.
    """
    ports = around.infrastructure.ports
    name = f"api-{uuid4().hex}"
    values: dict[str, Any] = {
        "listen_port": ports.port(name),
        "metrics_port": ports.port(f"{name}.metrics"),
        "database_url": SecretStr(around.database),
        "nats_url": around.infrastructure.nats.url,
        "storage_address": around.storage.address,
        "exports_per_hour": 0,
        "running_per_user": 0,
        "drain_seconds": 1,
        "reconcile_interval": 0.2,
        "source_buckets": ["rushes"],
    }
    settings = ApiSettings(**{**values, **changes})
    stop = asyncio.Event()
    service = asyncio.create_task(run(settings, stop))
    api = Api(settings, service, stop)
    try:
        async with open_channel(api.address) as channel:
            api.use(channel)
            yield api
    finally:
        if not stop.is_set():
            await api.stop()


class FakeEncoder:
    """The test in an encoder's place: it takes tasks and says what it is told to say."""

    def __init__(self, around: Surroundings, stack: AsyncExitStack) -> None:
        self._around = around
        self._stack = stack

    async def connect(self) -> None:
        """Connect to NATS."""
        url = self._around.infrastructure.nats.url
        self._nats = await self._stack.enter_async_context(
            connect(url, name="fake-encoder", on_closed=lambda: None)
        )
        await first_connection(self._nats)
        self._js = self._nats.jetstream()
        channel = await self._stack.enter_async_context(open_channel(self._around.storage.address))
        self._storage: StorageServiceAsyncStub = StorageServiceStub(channel)
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession())

    async def forget_tasks(self) -> None:
        """Remove every task that was sent out; streams may still have to be made."""
        await ensure_topology(self._js, replicas=1, ack_wait=60)
        await self._js.purge_stream(TASKS_STREAM)

    async def heartbeat(self, encoder: pb.Encoder) -> None:
        """Be heard of."""
        message = task_pb2.EncoderHeartbeat(encoder=encoder).SerializeToString()
        await self._nats.publish(f"videoexport.encoders.{encoder.id}", message)
        await self._nats.flush()

    async def take(self, lane: Lane) -> task_pb2.Task:
        """Take the next task of a lane."""
        subscription = await self._js.pull_subscribe_bind(durable=lane, stream=TASKS_STREAM)
        try:
            [message] = await subscription.fetch(1, timeout=10)
            await message.ack_sync()
        finally:
            await subscription.unsubscribe()
        return task_pb2.Task.FromString(message.data)

    async def say(self, task: task_pb2.Task, run_id: str, **kind: Any) -> None:
        """Publish an event of a task."""
        event = task_pb2.TaskEvent(
            task_id=task.task_id,
            attempt=task.attempt,
            run_id=run_id,
            export_id=task.export_id,
            user_id=task.user_id,
            encoder_id="encoder-1",
            **kind,
        )
        message_id = f"{task.task_id}.{run_id}.{event.WhichOneof('kind')}"
        await publish_durably(self._js, events_subject(task.task_id), event, message_id=message_id)

    async def progress(self, task: task_pb2.Task, run_id: str, frames: int) -> None:
        """Say how far a run is."""
        word = task_pb2.TaskProgress(
            task=pb.RunningTask(
                task_id=task.task_id,
                export_id=task.export_id,
                phase=pb.EXPORT_PHASE_ENCODING,
                frames_done=frames,
                frame_count=task.whole.plan.frame_count,
                frames_per_second=50,
                speed=2,
            ),
            attempt=task.attempt,
            run_id=run_id,
            encoder_id="encoder-1",
        )
        subject = f"videoexport.progress.{task.export_id}"
        await self._nats.publish(subject, word.SerializeToString())
        await self._nats.flush()

    async def begin(self, task: task_pb2.Task, run_id: str) -> None:
        """Say that a run has begun."""
        await self.say(task, run_id, started=task_pb2.TaskStarted(delivery_count=1))

    async def probe(self) -> None:
        """Take a probe and answer it."""
        task = await self.take(Lane.PROBE)
        run_id = f"run_{uuid4().hex}"
        await self.begin(task, run_id)
        info = pb.SourceInfo()
        info.CopyFrom(INFO)
        info.etag = task.source.etag
        await self.say(task, run_id, succeeded=task_pb2.TaskSucceeded(info=info))

    async def encode(self, task: task_pb2.Task, data: bytes, output: pb.Output = OUTPUT) -> str:
        """Store these bytes as the output, with its stills, and say so; return the run."""
        run_id = f"run_{uuid4().hex}"
        await self.begin(task, run_id)
        for name in ("", *files_of(output)):
            stored = storage.ExportOutput(export_id=task.export_id, run_id=run_id, file=name)
            await self.upload(task.user_id, data + name.encode(), export_output=stored)
        await self.say(
            task,
            run_id,
            succeeded=task_pb2.TaskSucceeded(output=output, recipe_version=RECIPE_VERSION),
        )
        return run_id

    async def upload(self, user: str, data: bytes, **purpose: Any) -> storage.ObjectStat:
        """Store an object of one part."""
        metadata = call_metadata(user)
        begun = await self._storage.CreateUpload(
            storage.CreateUploadRequest(size_bytes=len(data), **purpose), metadata=metadata
        )
        md5 = hashlib.md5(data)
        headers = {"Content-MD5": b64encode(md5.digest()).decode()}
        async with self._http.put(begun.parts[0].url, data=data, headers=headers) as response:
            assert response.status == 200, await response.text()
        done = await self._storage.CompleteUpload(
            storage.CompleteUploadRequest(
                upload=begun.upload,
                parts=[storage.UploadedPart(part_number=1, md5=md5.hexdigest())],
                size_bytes=len(data),
            ),
            metadata=metadata,
        )
        return done.object

    async def video(self, user: str = "anna", data: bytes = b"a video") -> str:
        """Store a source that nobody has examined; return its id."""
        stat = await self.upload(user, data, source=storage.SourceUpload(file_name="clip.mp4"))
        return stat.object.source.video_id

    async def probed_video(
        self, rig: Rig, user: str = "anna", *, told: pb.SourceInfo | None = None
    ) -> str:
        """Store a source that was examined before: 4 s at 25 frames a second.

        Args:
            told: what is known of it, too.
        """
        stat = await self.upload(user, b"probed", source=storage.SourceUpload(file_name="clip.mp4"))
        info = pb.SourceInfo()
        info.CopyFrom(INFO)
        if told is not None:
            info.MergeFrom(told)
        info.etag = stat.etag
        await rig.tasks.keep_probe(source_key(user, stat.object.source), info)
        return stat.object.source.video_id

    async def delete(self, user: str, reference: storage.ObjectRef) -> None:
        """Delete an object."""
        request = storage.DeleteObjectsRequest(objects=[reference])
        await self._storage.DeleteObjects(request, metadata=call_metadata(user))

    async def get(self, url: str) -> tuple[int, bytes]:
        """Return status and body of a URL."""
        async with self._http.get(url) as response:
            return response.status, await response.read()


class Refusal:
    """How an RPC was refused, with its details decoded."""

    def __init__(self, error: AioRpcError) -> None:
        self.code = error.code()
        self.message = error.details() or ""
        trailers = dict(error.trailing_metadata() or ())
        raw = trailers.get(DETAILS_KEY)
        assert isinstance(raw, bytes), f"no details: {error}"
        self._status = status_pb2.Status.FromString(raw)
        assert self._status.code == self.code.value[0]
        assert self._status.message == self.message

    def _find(self, kind: type[M]) -> M | None:
        for detail in self._status.details:
            message = kind()
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
                return message
        return None

    @property
    def reason(self) -> str:
        """The reason of ErrorInfo."""
        info = self._find(error_details_pb2.ErrorInfo)
        assert info is not None
        assert info.domain == "videoexport"
        return str(info.reason)

    @property
    def fields(self) -> list[str]:
        """The fields of BadRequest."""
        request = self._find(error_details_pb2.BadRequest)
        return [] if request is None else [item.field for item in request.field_violations]

    @property
    def quota_subject(self) -> str | None:
        """Whose limit is reached."""
        failure = self._find(error_details_pb2.QuotaFailure)
        return None if failure is None else str(failure.violations[0].subject)

    @property
    def retry_seconds(self) -> float | None:
        """When trying again makes sense."""
        retry = self._find(error_details_pb2.RetryInfo)
        return None if retry is None else float(retry.retry_delay.ToTimedelta().total_seconds())


async def refusal(call: Any) -> Refusal:
    """Return how a call was refused; fail when it was not."""
    with pytest.raises(AioRpcError) as raised:
        await call
    return Refusal(raised.value)


async def create(api: Api, video: str, request_id: str = "") -> pb.Export:
    """Create an export of a whole video for anna."""
    request = service.CreateExportRequest(source=pb.Source(video_id=video), request_id=request_id)
    answer = await api.exports.CreateExport(request, metadata=ANNA)
    return answer.export


async def get(api: Api, export_id: str) -> pb.Export:
    """Return an export of anna's."""
    request = service.GetExportRequest(export_id=export_id)
    return (await api.exports.GetExport(request, metadata=ANNA)).export


async def is_state(api: Api, export_id: str, state: pb.ExportState.ValueType) -> bool:
    """Return whether an export of anna's is in a state."""
    return (await get(api, export_id)).state == state


async def watched(api: Api, export_id: str, into: list[pb.Export]) -> None:
    """Watch an export of anna's, and keep what comes."""
    request = service.WatchExportRequest(export_id=export_id)
    async for answer in api.exports.WatchExport(request, metadata=ANNA, timeout=30):
        into.append(answer.export)  # noqa: PERF401 — what came before an error is wanted too


async def lists(api: Api, name: str) -> bool:
    """Return whether an encoder is listed."""
    answer = await api.exports.ListEncoders(service.ListEncodersRequest())
    return name in [item.id for item in answer.encoders]


async def not_empty(seen: list[pb.Export]) -> bool:
    """Return whether anything has come."""
    return bool(seen)
