"""The StorageService, as the encoder uses it on behalf of an export's owner."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import aiohttp
import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from services.common.caller import as_user
from services.common.errors import DomainError, Reason
from services.common.status import from_rpc_error
from services.encoder.source_gateway import SourceObject
from videoexport.transfer import TransferError, upload_file
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2
from videoexport.v1.storage_service_pb2_grpc import StorageServiceStub

if TYPE_CHECKING:
    # The stub of an asyncio channel; a name of the type stubs alone.
    from videoexport.v1.storage_service_pb2_grpc import StorageServiceAsyncStub

log = structlog.get_logger()

T = TypeVar("T")

# Signed anew when it runs out, so it need not outlive the longest encode.
SOURCE_URL_SECONDS = 3600
PREVIEW_URL_SECONDS = 24 * 3600


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.RpcError as error:
        raise from_rpc_error(error, unavailable=Reason.STORAGE_UNAVAILABLE) from error


class StorageClient:
    """Signs sources and stores outputs."""

    def __init__(
        self, channel: grpc.aio.Channel, http: aiohttp.ClientSession, timeout: float
    ) -> None:
        self._stub: StorageServiceAsyncStub = StorageServiceStub(channel)
        self._http = http
        self._timeout = timeout

    def source_object(self, user_id: str, source: task_pb2.TaskSource) -> SourceObject:
        """Return a source as the gateway reads it: signed when needed, at one version."""

        async def sign() -> str:
            reference = storage.ObjectRef(source=source.source)
            signed = await self._sign(user_id, reference, SOURCE_URL_SECONDS)
            return signed.url

        return SourceObject(sign=sign, etag=source.etag, size_bytes=source.size_bytes)

    async def find_source(self, user_id: str, source: pb.Source) -> task_pb2.TaskSource:
        """Return a source at its present version.

        Raises:
            DomainError: SOURCE_NOT_FOUND, STORAGE_UNAVAILABLE.
        """
        request = storage.StatObjectsRequest(objects=[storage.ObjectRef(source=source)])
        response = await _answer(
            self._stub.StatObjects(request, timeout=self._timeout, metadata=as_user(user_id))
        )
        found = response.objects[0]
        if not found.exists:
            raise DomainError(Reason.SOURCE_NOT_FOUND, "There is no such video or object.")
        return task_pb2.TaskSource(source=source, etag=found.etag, size_bytes=found.size_bytes)

    async def upload(
        self, user_id: str, request: storage.CreateUploadRequest, path: Path
    ) -> storage.ObjectStat:
        """Store a finished file, checked part by part; nothing stays of a failed upload.

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        try:
            return await _answer(
                upload_file(self._stub, self._http, request, path, metadata=as_user(user_id))
            )
        except TransferError as error:
            raise DomainError(Reason.STORAGE_UNAVAILABLE, str(error)) from error

    async def discard(self, user_id: str, upload: storage.CreateUploadRequest) -> None:
        """Delete what an upload may have made; the API or the lifecycle does where this fails."""
        reference = storage.ObjectRef()
        if upload.HasField("export_output"):
            reference.export_output.CopyFrom(upload.export_output)
        else:
            reference.preview_id = upload.preview_id
        request = storage.DeleteObjectsRequest(objects=[reference])
        try:
            await _answer(
                self._stub.DeleteObjects(request, timeout=self._timeout, metadata=as_user(user_id))
            )
        except DomainError as error:
            log.warning("unfinished output not deleted", reason=error.reason)

    async def sign_preview(self, user_id: str, preview_id: str) -> storage.SignDownloadResponse:
        """Return the URL of a finished preview.

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        reference = storage.ObjectRef(preview_id=preview_id)
        return await self._sign(user_id, reference, PREVIEW_URL_SECONDS)

    async def _sign(
        self, user_id: str, reference: storage.ObjectRef, seconds: int
    ) -> storage.SignDownloadResponse:
        request = storage.SignDownloadRequest(object=reference, lifetime=Duration(seconds=seconds))
        return await _answer(
            self._stub.SignDownload(request, timeout=self._timeout, metadata=as_user(user_id))
        )
