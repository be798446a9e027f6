"""Calls to the StorageService for a user, each with a deadline, errors as domain errors."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.caller import as_user
from services.common.errors import DomainError, Reason, Violation, invalid_request
from services.common.status import from_rpc_error
from services.common.watermark import MAX_IMAGE_BYTES
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2
from videoexport.v1.storage_service_pb2_grpc import StorageServiceStub

if TYPE_CHECKING:
    # The stub of an asyncio channel; a name of the type stubs alone.
    from videoexport.v1.storage_service_pb2_grpc import StorageServiceAsyncStub

T = TypeVar("T")

# A little longer than the StorageService lets S3 take for it.
COPY_SECONDS = 130


STORAGE_SERVICE = "videoexport.v1.StorageService"
# Below the time that health gives a check, so that the real problem is reported.
HEALTH_SECONDS = 2.0


async def service_problem(channel: grpc.aio.Channel, service: str) -> str | None:
    """Return why a service of ours cannot be used, by its own health, or None."""
    check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
    name = service.rpartition(".")[2]
    try:
        answered = await check(
            health_pb2.HealthCheckRequest(service=service), timeout=HEALTH_SECONDS
        )
    except grpc.RpcError:
        return f"the {name} does not answer"
    serving = answered.status == health_pb2.HealthCheckResponse.SERVING
    return None if serving else f"the {name} says that it does not serve"


async def answer(call: Awaitable[T], unavailable: Reason = Reason.STORAGE_UNAVAILABLE) -> T:
    """Return what a call answers.

    Raises:
        DomainError: what the service meant; `unavailable` when it did not answer.
    """
    try:
        return await call
    except grpc.RpcError as error:
        raise from_rpc_error(error, unavailable=unavailable) from error


class StorageCalls:
    """What every service asks of the StorageService.

    Args:
        timeout: seconds for one call.
    """

    def __init__(self, channel: grpc.aio.Channel, timeout: float) -> None:
        self._stub: StorageServiceAsyncStub = StorageServiceStub(channel)
        self._timeout = timeout

    async def find_source(self, user_id: str, source: pb.Source) -> task_pb2.TaskSource:
        """Return a source at its present version.

        Raises:
            DomainError: SOURCE_NOT_FOUND naming it; BUCKET_NOT_ALLOWED;
                STORAGE_UNAVAILABLE.
        """
        [found] = await self.stat(user_id, [storage.ObjectRef(source=source)])
        if not found.exists:
            raise DomainError(Reason.SOURCE_NOT_FOUND, f"There is no {name_of(source)}.")
        return task_pb2.TaskSource(source=source, etag=found.etag, size_bytes=found.size_bytes)

    async def note_watermark(self, user_id: str, settings: pb.ExportSettings) -> None:
        """Note in settings which version of the watermark's image there is, where they have one.

        Raises:
            DomainError: INVALID_REQUEST where there is none, or it is too large to be one;
                BUCKET_NOT_ALLOWED; STORAGE_UNAVAILABLE.
        """
        if not settings.HasField("watermark"):
            return
        image = settings.watermark.image
        [found] = await self.stat(user_id, [storage.ObjectRef(source=image)])
        problem = None
        if not found.exists:
            problem = f"there is no {name_of(image, kind='image')}"
        elif found.size_bytes > MAX_IMAGE_BYTES:
            problem = f"has {found.size_bytes} bytes; at most {MAX_IMAGE_BYTES} are drawn"
        if problem is not None:
            raise invalid_request([Violation("settings.watermark.image", problem)])
        settings.watermark.etag, settings.watermark.size_bytes = found.etag, found.size_bytes

    async def stat(
        self, user_id: str, references: Sequence[storage.ObjectRef]
    ) -> list[storage.ObjectStat]:
        """Return what is known of objects, at most 1000, in order.

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        request = storage.StatObjectsRequest(objects=references)
        response = await answer(
            self._stub.StatObjects(request, timeout=self._timeout, metadata=as_user(user_id))
        )
        return list(response.objects)

    async def copy(
        self, user_id: str, found: storage.ObjectRef, target: storage.ObjectRef
    ) -> storage.ObjectStat:
        """Copy an object within S3 and return the copy.

        Raises:
            DomainError: OBJECT_NOT_FOUND, STORAGE_UNAVAILABLE.
        """
        request = storage.CopyObjectRequest(object=found, target=target)
        response = await answer(
            self._stub.CopyObject(request, timeout=COPY_SECONDS, metadata=as_user(user_id))
        )
        return response.object

    async def sign(
        self,
        user_id: str,
        reference: storage.ObjectRef,
        lifetime: timedelta,
        *,
        file_name: str = "",
    ) -> storage.SignDownloadResponse:
        """Return a presigned URL of an object.

        Raises:
            DomainError: OBJECT_NOT_FOUND, STORAGE_UNAVAILABLE.
        """
        duration = Duration()
        duration.FromTimedelta(lifetime)
        request = storage.SignDownloadRequest(
            object=reference, file_name=file_name, lifetime=duration
        )
        return await answer(
            self._stub.SignDownload(request, timeout=self._timeout, metadata=as_user(user_id))
        )

    async def delete(self, user_id: str, references: Sequence[storage.ObjectRef]) -> None:
        """Delete objects of one user; missing ones count as deleted.

        Raises:
            DomainError: STORAGE_UNAVAILABLE; some may be gone already.
        """
        request = storage.DeleteObjectsRequest(objects=references)
        await answer(
            self._stub.DeleteObjects(request, timeout=self._timeout, metadata=as_user(user_id))
        )


def name_of(source: pb.Source, kind: str = "video") -> str:
    """Return a source as a person would name it.

    Args:
        kind: what was uploaded.
    """
    if source.WhichOneof("kind") == "video_id":
        return f"{kind} {source.video_id}"
    return f"object s3://{source.s3_object.bucket}/{source.s3_object.key}"
