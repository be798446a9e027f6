"""What the encoder asks of the StorageService: sources to read, outputs to keep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import aiohttp
import grpc
import structlog

from services.common.caller import as_user
from services.common.errors import DomainError, Reason
from services.common.storage import StorageCalls, answer
from services.encoder.errors import PartMissing
from services.encoder.sources.gateway import SourceObject
from videoexport.transfer import Patience, TransferError, upload_file
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

log = structlog.get_logger()

# Signed anew when it runs out, so it need not outlive the longest encode.
SOURCE_URL_LIFETIME = timedelta(hours=1)
# StatObjects takes a thousand, but asks S3 for eight at a time: so many are answered well
# within the limit of one call, although S3 is slow.
STAT_BATCH = 100
PREVIEW_URL_LIFETIME = timedelta(days=1)
# A finished file may be an hour's work: it waits for a StorageService or an S3 that
# restarts. After that the run fails, so that the slot does other work meanwhile.
UPLOAD_PATIENCE = Patience(tries=12)
UPLOAD_GIVE_UP_AFTER = 60.0


class StorageClient(StorageCalls):
    """Signs sources and stores outputs."""

    def __init__(
        self, channel: grpc.aio.Channel, http: aiohttp.ClientSession, timeout: float
    ) -> None:
        super().__init__(channel, timeout)
        self._http = http

    async def parts(self, user_id: str, keys: Sequence[bytes]) -> list[SourceObject]:
        """Return stored parts as the gateway reads them, in order.

        Raises:
            PartMissing: naming those that are not there.
            DomainError: STORAGE_UNAVAILABLE.
        """
        distinct = list(dict.fromkeys(keys))
        references = [storage.ObjectRef(cache_key=key.hex()) for key in distinct]
        stats: list[storage.ObjectStat] = []
        for start in range(0, len(references), STAT_BATCH):
            stats += await self.stat(user_id, references[start : start + STAT_BATCH])
        missing = [key for key, stat in zip(distinct, stats, strict=True) if not stat.exists]
        if missing:
            raise PartMissing(missing)
        found = {key: self._part(user_id, stat) for key, stat in zip(distinct, stats, strict=True)}
        return [found[key] for key in keys]

    def _part(self, user_id: str, stat: storage.ObjectStat) -> SourceObject:
        async def sign() -> str:
            return (await self.sign(user_id, stat.object, SOURCE_URL_LIFETIME)).url

        async def latest() -> SourceObject:
            [part] = await self.parts(user_id, [bytes.fromhex(stat.object.cache_key)])
            return part

        return SourceObject(
            sign=sign,
            etag=stat.etag,
            size_bytes=stat.size_bytes,
            read_whole=True,
            # Whoever writes a part again, to renew it or as another one who made it, writes
            # what the key says.
            latest=latest,
        )

    def source_object(self, user_id: str, source: task_pb2.TaskSource) -> SourceObject:
        """Return a source as the gateway reads it: signed when needed, at one version."""

        async def sign() -> str:
            reference = storage.ObjectRef(source=source.source)
            return (await self.sign(user_id, reference, SOURCE_URL_LIFETIME)).url

        return SourceObject(sign=sign, etag=source.etag, size_bytes=source.size_bytes)

    async def output_object(self, user_id: str, output: storage.ExportOutput) -> SourceObject:
        """Return a finished file as the gateway reads it.

        Raises:
            DomainError: OBJECT_NOT_FOUND, STORAGE_UNAVAILABLE.
        """
        reference = storage.ObjectRef(export_output=output)
        [stat] = await self.stat(user_id, [reference])
        if not stat.exists:
            raise DomainError(Reason.OBJECT_NOT_FOUND, "The finished file is not there any more.")

        async def sign() -> str:
            return (await self.sign(user_id, reference, SOURCE_URL_LIFETIME)).url

        return SourceObject(sign=sign, etag=stat.etag, size_bytes=stat.size_bytes)

    async def upload(
        self, user_id: str, request: storage.CreateUploadRequest, path: Path
    ) -> storage.ObjectStat:
        """Store a finished file, checked part by part; nothing stays of a failed upload.

        While storage is away it is begun again, for up to UPLOAD_GIVE_UP_AFTER seconds.

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        loop = asyncio.get_running_loop()
        tries, give_up = 0, 0.0
        while True:
            try:
                return await self._upload(user_id, request, path)
            except DomainError as error:
                tries += 1
                give_up = give_up or loop.time() + UPLOAD_GIVE_UP_AFTER
                if error.reason is not Reason.STORAGE_UNAVAILABLE or loop.time() >= give_up:
                    raise
                log.warning("upload waits for storage", problem=error.message)
            await UPLOAD_PATIENCE.wait(tries)

    async def _upload(
        self, user_id: str, request: storage.CreateUploadRequest, path: Path
    ) -> storage.ObjectStat:
        upload = upload_file(
            *(self._stub, self._http, request, path),
            metadata=as_user(user_id),
            patience=UPLOAD_PATIENCE,
        )
        try:
            return await answer(upload)
        except TransferError as error:
            raise DomainError(Reason.STORAGE_UNAVAILABLE, str(error)) from error

    async def store(
        self, user_id: str, upload: storage.CreateUploadRequest, path: Path
    ) -> storage.ObjectStat:
        """Store an output that is this run's alone; where that is cut short, no object stays.

        The upload may have been completed in the very moment in which the run
        was cancelled, or its answer may have been lost.

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        try:
            return await self.upload(user_id, upload, path)
        except BaseException:
            await asyncio.shield(self.discard(user_id, upload))
            raise

    async def discard(self, user_id: str, upload: storage.CreateUploadRequest) -> None:
        """Delete what an upload may have made; the API or the lifecycle does where this fails."""
        reference = storage.ObjectRef()
        if upload.HasField("export_output"):
            reference.export_output.CopyFrom(upload.export_output)
        else:
            reference.preview_id = upload.preview_id
            reference.preview_format = upload.preview_format
        try:
            await self.delete(user_id, [reference])
        except DomainError as error:
            log.warning("unfinished output not deleted", reason=error.reason)

    async def sign_preview(
        self, user_id: str, preview_id: str, form: pb.Format.ValueType
    ) -> storage.SignDownloadResponse:
        """Return the URL of a finished preview.

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        reference = storage.ObjectRef(preview_id=preview_id, preview_format=form)
        return await self.sign(user_id, reference, PREVIEW_URL_LIFETIME)
