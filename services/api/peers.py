"""Calls to the other services, each with a deadline, errors as domain errors."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import timedelta
from itertools import groupby
from typing import TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration

from services.api.store.housekeeping import Deletion
from services.common.caller import as_user
from services.common.errors import DomainError, Reason
from services.common.status import from_rpc_error
from videoexport.channel import open_channel
from videoexport.v1 import encoder_service_pb2 as encoder
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2
from videoexport.v1.encoder_service_pb2_grpc import EncoderServiceStub
from videoexport.v1.storage_service_pb2_grpc import StorageServiceStub

T = TypeVar("T")


async def _answer(call: Awaitable[T], unavailable: Reason) -> T:
    try:
        return await call
    except grpc.RpcError as error:
        raise from_rpc_error(error, unavailable=unavailable) from error


class StorageClient:
    """The StorageService, as the API uses it on behalf of users."""

    def __init__(self, channel: grpc.aio.Channel, timeout: float) -> None:
        self._stub = StorageServiceStub(channel)
        self._timeout = timeout

    async def find_source(self, user_id: str, source: pb.Source) -> task_pb2.TaskSource:
        """Return a source at its present version.

        Raises:
            DomainError: SOURCE_NOT_FOUND naming it; BUCKET_NOT_ALLOWED;
                STORAGE_UNAVAILABLE.
        """
        request = storage.StatObjectsRequest(objects=[storage.ObjectRef(source=source)])
        response = await _answer(
            self._stub.StatObjects(request, timeout=self._timeout, metadata=as_user(user_id)),
            Reason.STORAGE_UNAVAILABLE,
        )
        found = response.objects[0]
        if not found.exists:
            raise DomainError(Reason.SOURCE_NOT_FOUND, f"There is no {name_of(source)}.")
        return task_pb2.TaskSource(source=source, etag=found.etag, size_bytes=found.size_bytes)

    async def sign_output(
        self, user_id: str, output: storage.ObjectRef, file_name: str, lifetime: timedelta
    ) -> storage.SignDownloadResponse:
        """Return a presigned URL of a finished file.

        Raises:
            DomainError: OBJECT_NOT_FOUND, STORAGE_UNAVAILABLE.
        """
        duration = Duration()
        duration.FromTimedelta(lifetime)
        request = storage.SignDownloadRequest(object=output, file_name=file_name, lifetime=duration)
        return await _answer(
            self._stub.SignDownload(request, timeout=self._timeout, metadata=as_user(user_id)),
            Reason.STORAGE_UNAVAILABLE,
        )

    async def delete(self, deletions: Sequence[Deletion]) -> None:
        """Delete objects of several users.

        Raises:
            DomainError: STORAGE_UNAVAILABLE; some may be gone already.
        """
        by_user = sorted(deletions, key=lambda deletion: deletion.user_id)
        for user_id, group in groupby(by_user, key=lambda deletion: deletion.user_id):
            request = storage.DeleteObjectsRequest(objects=[item.object for item in group])
            await _answer(
                self._stub.DeleteObjects(request, timeout=self._timeout, metadata=as_user(user_id)),
                Reason.STORAGE_UNAVAILABLE,
            )


async def probe_at(address: str, user_id: str, source: pb.Source, timeout: float) -> pb.SourceInfo:
    """Have the encoder at `address` examine a source.

    Raises:
        DomainError: INVALID_SOURCE, SOURCE_NOT_FOUND, SLOTS_BUSY, NO_ENCODER.
    """
    async with open_channel(address) as channel:
        response = await _answer(
            EncoderServiceStub(channel).Probe(
                encoder.ProbeRequest(source=source), timeout=timeout, metadata=as_user(user_id)
            ),
            Reason.NO_ENCODER,
        )
    return response.info


def name_of(source: pb.Source) -> str:
    """Return a source as a person would name it."""
    if source.WhichOneof("kind") == "video_id":
        return f"video {source.video_id}"
    return f"object s3://{source.s3_object.bucket}/{source.s3_object.key}"
