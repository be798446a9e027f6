"""A file that cannot be read to its end is named, with what the system says."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from unittest.mock import AsyncMock

import aiohttp
import pytest
from grpc.aio import Metadata

from videoexport.transfer import LocalFileError, Patience, TransferError, upload_file
from videoexport.v1 import storage_service_pb2 as pb


def unreadable(*_: object) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(
    ("pread", "words"),
    [
        (unreadable, "talk.mp4 cannot be read any more: Input/output error."),
        (lambda *_: b"", "talk.mp4 became shorter while it was uploaded."),
    ],
)
async def test_file_that_fails_meanwhile_is_named_and_the_upload_aborted(
    pread: object, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "talk.mp4"
    file.write_bytes(b"x")
    storage = AsyncMock()
    storage.CreateUpload.return_value = pb.CreateUploadResponse(
        part_size_bytes=1, parts=[pb.PartUrl(part_number=1)]
    )
    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(LocalFileError) as caught:
        await upload_file(storage, AsyncMock(), pb.CreateUploadRequest(), file, metadata=Metadata())
    assert str(caught.value) == words
    storage.AbortUpload.assert_awaited_once()


async def test_failed_upload_leaves_its_caller_uncancelled(tmp_path: Path) -> None:
    file = tmp_path / "talk.mp4"
    file.write_bytes(b"x")
    storage = AsyncMock()
    # Without a part's URL, sending it fails at once.
    storage.CreateUpload.return_value = pb.CreateUploadResponse(
        part_size_bytes=1, parts=[pb.PartUrl(part_number=1)]
    )
    async with aiohttp.ClientSession() as http:
        with pytest.raises(TransferError):
            await upload_file(
                *(storage, http, pb.CreateUploadRequest(), file),
                metadata=Metadata(),
                patience=Patience(tries=1),
            )
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
