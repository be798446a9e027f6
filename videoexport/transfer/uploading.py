"""Uploads a file in parts: hashed ahead in file order, several on their way at a time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import aiohttp
import grpc
from grpc.aio import AioRpcError, Metadata

from videoexport.transfer.pacing import (
    BLOCK,
    DEFAULT_PATIENCE,
    NO_LIMIT,
    PASSING,
    Broken,
    LocalFileError,
    OnProgress,
    Patience,
    Progress,
    TransferError,
    describe,
    no_stall,
)
from videoexport.v1 import storage_service_pb2 as pb

if TYPE_CHECKING:
    from videoexport.v1.storage_service_pb2_grpc import StorageServiceAsyncStub

HASH_BLOCK = 1024 * 1024

CREATE_SECONDS = 30
COMPLETE_SECONDS = 90  # S3 joins thousands of parts in up to a minute
UNDO_SECONDS = 5
# Counts for more than any rate asks for: S3 has the whole time of a stall for its answer.
ALL_SENT = 1 << 62

_COMES_BACK = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def upload_file(
    storage: StorageServiceAsyncStub,
    http: aiohttp.ClientSession,
    request: pb.CreateUploadRequest,
    path: Path,
    *,
    metadata: Metadata,
    on_progress: OnProgress = lambda _: None,
    concurrency: int = 4,
    patience: Patience = DEFAULT_PATIENCE,
) -> pb.ObjectStat:
    """Upload a file in checksummed parts and return the finished object, `sha256` included.

    What fails or is cancelled leaves neither parts nor an object.

    Args:
        storage: where the upload is begun and completed.
        http: sends the parts.
        request: what is uploaded; its `size_bytes` is filled in here.
        path: the file; it must not change meanwhile.
        metadata: of the calls to `storage`, naming the user.
        on_progress: see OnProgress.
        concurrency: parts on their way at a time.
        patience: when to give up.

    Raises:
        LocalFileError: the file cannot be read, or changes meanwhile.
        TransferError: S3 does not take it.
        AioRpcError: StorageService declined or did not answer.
    """
    # Not in a thread: opening takes microseconds, and a cancellation would lose the open file.
    file = _open(path)
    try:
        before = os.fstat(file.fileno())
        sized = pb.CreateUploadRequest()
        sized.CopyFrom(request)
        sized.size_bytes = before.st_size
        begun = await _begin(storage, sized, metadata)
        completing: asyncio.Task[pb.ObjectStat] | None = None
        try:
            sender = _Sender(http, file, patience, Progress(on_progress))
            # In a task of its own: the group within leaves the task that it fails in marked as
            # cancelled, before Python 3.13, and who looks at that would take it for true.
            sending = asyncio.create_task(sender.send(begun, before.st_size, concurrency))
            complete = await sending
            after = os.fstat(file.fileno())
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise LocalFileError(f"{path.name} was changed while it was uploaded.")
            completing = asyncio.create_task(_complete(storage, complete, metadata, patience))
            return await asyncio.shield(completing)
        except BaseException:
            # Shielded: a second cancellation must not leave behind what costs money.
            await asyncio.shield(_undo(storage, begun.upload, metadata, completing))
            raise
    finally:
        file.close()


@dataclass(slots=True)
class _Part:
    """A stretch of the file; `sent` counts its bytes in the try under way."""

    number: int
    url: str = field(repr=False)
    offset: int
    length: int
    md5: bytes = b""
    sent: int = 0

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + self.length

    def blocks(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield offset and length of each block."""
        for start in range(self.offset, self.end, size):
            yield start, min(size, self.end - start)


class _Sender:
    def __init__(
        self,
        http: aiohttp.ClientSession,
        file: BinaryIO,
        patience: Patience,
        progress: Progress,
    ) -> None:
        self._http = http
        self._file = file
        self._patience = patience
        self._progress = progress

    async def send(
        self, begun: pb.CreateUploadResponse, size: int, concurrency: int
    ) -> pb.CompleteUploadRequest:
        """Send every part; return what completes the upload."""
        complete = pb.CompleteUploadRequest(upload=begun.upload, size_bytes=size)
        whole = hashlib.sha256()
        gate = asyncio.Semaphore(concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                for part in _parts(begun, size):
                    # Hashing stays close ahead of sending, which then reads from the page cache.
                    await gate.acquire()
                    await self._hash(part, whole)
                    complete.parts.add(part_number=part.number, md5=part.md5.hex())
                    sending = group.create_task(self._persist(part))
                    sending.add_done_callback(lambda _: gate.release())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        complete.sha256 = whole.hexdigest()
        return complete

    async def _hash(self, part: _Part, whole: hashlib._Hash) -> None:
        md5 = hashlib.md5(usedforsecurity=False)

        def update(offset: int, count: int) -> None:
            block = _read(self._file, offset, count)
            md5.update(block)
            whole.update(block)

        for offset, count in part.blocks(HASH_BLOCK):
            await asyncio.to_thread(update, offset, count)
        part.md5 = md5.digest()

    async def _persist(self, part: _Part) -> None:
        tries = 0
        while True:
            try:
                await self._put(part)
            except PASSING as error:
                self._progress.moved(-part.sent)
                part.sent = 0
                # What reading the file raised arrives as the cause of aiohttp's own error.
                if isinstance(error.__cause__, TransferError):
                    raise error.__cause__ from None
                tries += 1
                if tries >= self._patience.tries:
                    raise TransferError(
                        f"Part {part.number} could not be sent: {describe(error)}."
                    ) from None
            else:
                return
            await self._patience.wait(tries)

    async def _put(self, part: _Part) -> None:
        headers = {
            "Content-Length": str(part.length),
            "Content-MD5": base64.b64encode(part.md5).decode(),
        }
        async with no_stall(self._patience) as moved:

            async def body() -> AsyncIterator[bytes]:
                for offset, count in part.blocks(BLOCK):
                    yield await asyncio.to_thread(_read, self._file, offset, count)
                    # Reached when the block is with the system and the next is wanted.
                    moved(ALL_SENT if offset + count == part.end else count)
                    part.sent += count
                    self._progress.moved(count)

            async with self._http.put(
                part.url,
                data=body(),
                headers=headers,
                allow_redirects=False,
                timeout=NO_LIMIT,
            ) as response:
                _check(response.status)


def _parts(begun: pb.CreateUploadResponse, size: int) -> Iterator[_Part]:
    for part in begun.parts:
        offset = (part.part_number - 1) * begun.part_size_bytes
        length = min(begun.part_size_bytes, size - offset)
        yield _Part(part.part_number, part.url, offset, length)


async def _begin(
    storage: StorageServiceAsyncStub, request: pb.CreateUploadRequest, metadata: Metadata
) -> pb.CreateUploadResponse:
    """Begin the upload; when cancelled meanwhile, drop what was begun."""

    async def begin() -> pb.CreateUploadResponse:
        return await storage.CreateUpload(request, metadata=metadata, timeout=CREATE_SECONDS)

    beginning = asyncio.create_task(begin())
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        # Cancelling the call would not stop S3, and the upload's id would be lost.
        with suppress(AioRpcError, TimeoutError):
            async with asyncio.timeout(UNDO_SECONDS):
                begun = await beginning
            await asyncio.shield(_undo(storage, begun.upload, metadata, None))
        raise


async def _complete(
    storage: StorageServiceAsyncStub,
    complete: pb.CompleteUploadRequest,
    metadata: Metadata,
    patience: Patience,
) -> pb.ObjectStat:
    """Complete, again while the service or S3 is away: completing twice is harmless."""
    tries = 0
    while True:
        try:
            answer = await storage.CompleteUpload(
                complete, metadata=metadata, timeout=COMPLETE_SECONDS
            )
        except AioRpcError as error:
            tries += 1
            if error.code() not in _COMES_BACK or tries >= patience.tries:
                raise
        else:
            return answer.object
        await patience.wait(tries)


async def _undo(
    storage: StorageServiceAsyncStub,
    upload: pb.UploadRef,
    metadata: Metadata,
    completing: asyncio.Task[pb.ObjectStat] | None,
) -> None:
    """Leave neither parts nor, once the parts may have been joined, the object."""
    if completing is not None:
        # While S3 is joining, there is nothing yet to delete.
        await asyncio.wait({completing}, timeout=UNDO_SECONDS)
        completing.cancel()
        await asyncio.gather(completing, return_exceptions=True)
    abort = partial(storage.AbortUpload, pb.AbortUploadRequest(upload=upload))
    delete = partial(storage.DeleteObjects, pb.DeleteObjectsRequest(objects=[upload.object]))
    # The error to show is the one that ended the upload; the bucket's rules drop parts in a day.
    with suppress(AioRpcError):
        await abort(metadata=metadata, timeout=UNDO_SECONDS, wait_for_ready=True)
        if completing is not None:
            # Nobody else knows this object: its id is fresh, and was not handed out.
            await delete(metadata=metadata, timeout=UNDO_SECONDS, wait_for_ready=True)


def _open(path: Path) -> BinaryIO:
    try:
        file = path.open("rb")
    except OSError as error:
        raise LocalFileError(f"{path.name} cannot be read: {error.strerror}.") from None
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise LocalFileError(f"{path.name} is empty.")
    return file


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    name = Path(file.name).name
    try:
        # Leaves the file's position alone, so several parts can read at a time.
        block = os.pread(file.fileno(), count, offset)
    except OSError as error:
        raise LocalFileError(f"{name} cannot be read any more: {error.strerror}.") from None
    except ValueError:  # closed, because the upload was given up meanwhile
        raise LocalFileError(f"{name} is read no more.") from None
    if len(block) != count:
        raise LocalFileError(f"{name} became shorter while it was uploaded.")
    return block


def _check(status: int) -> None:
    if status == 200:
        return
    # 400 is S3's answer to bytes that arrived damaged, incomplete or too slowly.
    if status >= 500 or status in (400, 408, 429):
        raise Broken(f"object storage answered with status {status}")
    if status == 403:
        raise TransferError("Object storage refused the upload; it may have taken too long.")
    if status == 404:
        raise TransferError("The upload no longer exists; it was aborted or has expired.")
    raise TransferError(f"Object storage answered with status {status}.")
