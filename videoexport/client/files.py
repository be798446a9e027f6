"""Files to and from object storage, through the URLs that StorageService hands out."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import grpc

from videoexport import transfer
from videoexport.client.calls import Connection, Timeouts
from videoexport.client.errors import LocalFileFailed, Refused, TransferFailed, error_of
from videoexport.v1 import storage_service_pb2
from videoexport.v1.storage_service_pb2_grpc import StorageServiceStub

# Receives the bytes moved so far and the bytes in all.
OnBytes = Callable[[int, int], None]


def ignore(moved: int, total: int) -> None:
    """Take no notice of progress."""


class FileStore:
    """Uploads and downloads of one user; an async context manager."""

    def __init__(self, address: str, user: str, timeouts: Timeouts) -> None:
        self._address = address
        self._user = user
        self._timeouts = timeouts
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the channel and the HTTP session."""
        self._connection = Connection(self._address, self._user, self._timeouts)
        self._opened.push_async_callback(self._connection.close)
        # No limit on the whole: transfer.py bounds how long nothing may move.
        self._http = await self._opened.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close both."""
        await self._opened.aclose()

    async def upload(self, path: Path, *, file_name: str, on_progress: OnBytes) -> str:
        """Upload a source and return its video id.

        Raises:
            OSError: there is no such file.
            Refused: the file is empty, or the service does not take its name or size.
            ServiceUnreachable: StorageService did not answer.
            LocalFileFailed: it cannot be read, is no regular file, or its name is not text.
            TransferFailed: S3 did not take it.
        """
        if not _is_text(file_name):
            raise LocalFileFailed(f"{file_name!r} is not a name in UTF-8; the file needs another.")
        found = await asyncio.to_thread(path.stat)
        if not stat.S_ISREG(found.st_mode):
            raise LocalFileFailed(f"{path.name} is not a regular file.")
        size = found.st_size
        if size == 0:
            raise Refused("INVALID_SOURCE", f"{path.name} is empty, so it is not a video.")
        await self._connection.ready(within=self._timeouts.connect)
        with self._meaning():
            uploaded = await transfer.upload_file(
                StorageServiceStub(self._connection.channel),
                self._http,
                storage_service_pb2.CreateUploadRequest(
                    source=storage_service_pb2.SourceUpload(file_name=file_name),
                    size_bytes=size,
                ),
                path,
                metadata=self._connection.metadata,
                on_progress=_of_total(on_progress, size),
            )
        return uploaded.object.source.video_id

    async def download(
        self,
        url: str,
        path: Path,
        *,
        size: int,
        sha256: str,
        replace: bool,
        on_progress: OnBytes,
    ) -> None:
        """Download what `url` names to `path`, which appears only once it is whole.

        Raises:
            LocalFileFailed: the file cannot be written, or exists and is not to be replaced.
            TransferFailed: the bytes did not arrive, or have another size or SHA-256.
        """
        with self._meaning():
            await transfer.download(
                self._http,
                url,
                path,
                on_progress=_of_total(on_progress, size),
                expected_size=size,
                expected_sha256=sha256,
                replace=replace,
            )

    @contextmanager
    def _meaning(self) -> Iterator[None]:
        try:
            yield
        except transfer.LocalFileError as error:
            raise LocalFileFailed(str(error)) from error
        except transfer.TransferError as error:
            raise TransferFailed(str(error)) from error
        except grpc.aio.AioRpcError as error:
            raise error_of(error, self._address) from error


def _is_text(name: str) -> bool:
    # Bytes of a file name that are no UTF-8 are surrogates in Python's text.
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _of_total(on_progress: OnBytes, total: int) -> transfer.OnProgress:
    return lambda moved: on_progress(moved, total)
