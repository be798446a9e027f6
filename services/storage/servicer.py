"""StorageService on gRPC: converts requests and answers, nothing else."""

from __future__ import annotations

from typing import Any

from grpc.aio import ServicerContext

from services.common.caller import user_of
from services.storage import requests
from services.storage.keys import Keys
from services.storage.objects import Objects, Stat
from services.storage.uploads import Uploads
from videoexport.v1 import storage_service_pb2 as pb
from videoexport.v1 import storage_service_pb2_grpc

Context = ServicerContext[Any, Any]


class StorageServicer(storage_service_pb2_grpc.StorageServiceServicer):
    """Answers for the user named in the metadata of each call."""

    def __init__(
        self, keys: Keys, objects: Objects, uploads: Uploads, max_upload_bytes: int
    ) -> None:
        self._keys = keys
        self._max_upload_bytes = max_upload_bytes
        self._objects = objects
        self._uploads = uploads

    async def CreateUpload(
        self, request: pb.CreateUploadRequest, context: Context
    ) -> pb.CreateUploadResponse:
        """Begin a multipart upload."""
        new = requests.new_upload(request, user_of(context), self._keys, self._max_upload_bytes)
        begun = await self._uploads.begin(new)
        response = pb.CreateUploadResponse(
            upload=pb.UploadRef(object=new.ref, upload_id=begun.upload_id),
            part_size_bytes=begun.part_size,
            parts=[pb.PartUrl(part_number=n, url=url) for n, url in enumerate(begun.urls, 1)],
        )
        response.expire_time.FromDatetime(begun.expire_time)
        return response

    async def CompleteUpload(
        self, request: pb.CompleteUploadRequest, context: Context
    ) -> pb.CompleteUploadResponse:
        """Verify and join the parts."""
        sent = requests.sent_upload(request, user_of(context), self._keys)
        stat = await self._uploads.complete(sent)
        return pb.CompleteUploadResponse(
            object=_stat(request.upload.object, stat, sha256=sent.sha256)
        )

    async def AbortUpload(
        self, request: pb.AbortUploadRequest, context: Context
    ) -> pb.AbortUploadResponse:
        """Drop an unfinished upload."""
        pending = requests.pending_upload(request, user_of(context), self._keys)
        await self._uploads.abort(pending)
        return pb.AbortUploadResponse()

    async def StatObjects(
        self, request: pb.StatObjectsRequest, context: Context
    ) -> pb.StatObjectsResponse:
        """Return what is known of each object."""
        locations = requests.objects_to_stat(request, user_of(context), self._keys)
        stats = await self._objects.stat_all(locations)
        return pb.StatObjectsResponse(
            objects=[_stat(ref, stat) for ref, stat in zip(request.objects, stats, strict=True)]
        )

    async def SignDownload(
        self, request: pb.SignDownloadRequest, context: Context
    ) -> pb.SignDownloadResponse:
        """Return a URL to read an object."""
        wanted = requests.download(request, user_of(context), self._keys)
        signed = await self._objects.sign_download(wanted)
        response = pb.SignDownloadResponse(url=signed.url)
        response.expire_time.FromDatetime(signed.expire_time)
        return response

    async def DeleteObjects(
        self, request: pb.DeleteObjectsRequest, context: Context
    ) -> pb.DeleteObjectsResponse:
        """Delete objects, and first what would still become of unfinished uploads to them."""
        named, stills = requests.objects_to_delete(request, user_of(context), self._keys)
        await self._uploads.abort_all([*named, *stills])
        # The video last: as long as it is there, somebody has yet to delete them all.
        await self._objects.delete_all(stills)
        deleted = await self._objects.delete_all(named)
        return pb.DeleteObjectsResponse(deleted_count=deleted)

    async def CopyObject(
        self, request: pb.CopyObjectRequest, context: Context
    ) -> pb.CopyObjectResponse:
        """Copy an object within S3."""
        found, target = requests.objects_to_copy(request, user_of(context), self._keys)
        stat = await self._objects.copy(found, target)
        return pb.CopyObjectResponse(object=_stat(request.target, stat))


def _stat(ref: pb.ObjectRef, stat: Stat | None, *, sha256: str = "") -> pb.ObjectStat:
    if stat is None:
        return pb.ObjectStat(object=ref, exists=False)
    answer = pb.ObjectStat(
        object=ref,
        exists=True,
        size_bytes=stat.size_bytes,
        etag=stat.etag,
        file_name=stat.file_name,
        sha256=sha256,
    )
    answer.update_time.FromDatetime(stat.update_time)
    return answer
