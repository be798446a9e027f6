"""Downloads a file: resumed where the connection broke, verified, and whole or not there."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from itertools import count
from pathlib import Path
from typing import BinaryIO

import aiohttp

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


async def download(
    http: aiohttp.ClientSession,
    url: str,
    path: Path,
    *,
    expected_size: int,
    expected_sha256: str,
    replace: bool = True,
    on_progress: OnProgress = lambda _: None,
    patience: Patience = DEFAULT_PATIENCE,
) -> None:
    """Save what `url` gives as `path`; the file appears whole and verified, or not at all.

    Args:
        http: reads the URL.
        url: presigned, for a GET.
        path: the file.
        expected_size: bytes.
        expected_sha256: hexadecimal; empty where it is not known.
        replace: whether a file that has that name by then gives way; if not, the
            download is kept beside it under a name that the error tells.
        on_progress: see OnProgress.
        patience: when to give up.

    Raises:
        LocalFileError: the file cannot be written, or exists.
        TransferError: S3 does not give what is expected.
    """
    partial = path.with_name(f".videoexport-{secrets.token_hex(8)}.part")
    try:
        # Not in a thread: opening takes microseconds, and a cancellation would lose the open file.
        with partial.open("xb") as file:
            receiver = _Receiver(http, url, file, expected_size, Progress(on_progress))
            sha256 = await receiver.receive(patience)
        if expected_sha256 and sha256 != expected_sha256.lower():
            raise TransferError("The downloaded bytes do not match the checksum of the file.")
        if replace:
            partial.replace(path)
        else:
            _name(partial, path)
    except OSError as error:
        raise LocalFileError(f"{path.name} cannot be written: {error.strerror}.") from None
    finally:
        partial.unlink(missing_ok=True)


def _name(partial: Path, path: Path) -> None:
    """Give a finished file its name, without replacing another that has it by now."""
    try:
        _claim(partial, path)
    except FileExistsError:
        other = _name_beside(partial, path)
        raise LocalFileError(
            f"{path.name} exists by now and was not replaced; the download is {other.name}."
        ) from None


def _name_beside(partial: Path, path: Path) -> Path:
    for number in count(2):
        other = path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            _claim(partial, other)
        except FileExistsError:
            continue
        return other
    raise AssertionError("counts for ever")


def _claim(partial: Path, path: Path) -> None:
    """Give `partial` the name `path`.

    Raises:
        FileExistsError: something has that name.
    """
    try:
        # Unlike a rename, it fails where there is a file.
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links, such as exFAT: take the name with an empty file first.
        path.open("xb").close()
        partial.replace(path)


class _Receiver:
    """Receives one object of known size into an open file."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        file: BinaryIO,
        size: int,
        progress: Progress,
    ) -> None:
        self._http = http
        self._url = url
        self._file = file
        self._size = size
        self._progress = progress
        self._digest = hashlib.sha256()
        self._received = 0
        self._etag = ""

    async def receive(self, patience: Patience) -> str:
        """Return the SHA-256 of what was received, once that is all."""
        loop = asyncio.get_running_loop()
        tries = 0
        while self._received < self._size:
            received_before, began = self._received, loop.time()
            try:
                await self._read_on(patience)
            except PASSING as error:
                got = self._received - received_before
                tries = 1 if patience.gets_on(got, loop.time() - began) else tries + 1
                if tries >= patience.tries:
                    raise TransferError(f"The download broke off: {describe(error)}.") from None
                await patience.wait(tries)
        return self._digest.hexdigest()

    async def _read_on(self, patience: Patience) -> None:
        headers = {"Accept-Encoding": "identity"}
        if self._received:
            headers |= {"Range": f"bytes={self._received}-", "If-Match": self._etag}
        async with (
            no_stall(patience) as moved,
            self._http.get(
                self._url, headers=headers, allow_redirects=False, timeout=NO_LIMIT
            ) as response,
        ):
            _check(response.status)
            if response.status == 206:
                self._check_range(response.headers.get("Content-Range", ""))
            elif self._received:
                await self._start_over()
            self._etag = response.headers.get("ETag", "")
            async for block in response.content.iter_chunked(BLOCK):
                if self._received + len(block) > self._size:
                    raise TransferError("The file is larger than announced.")
                await asyncio.to_thread(self._append, block)
                self._progress.moved(len(block))
                moved(len(block))
        if self._received < self._size:
            raise Broken("the file ended early")

    def _check_range(self, content_range: str) -> None:
        if not content_range.startswith(f"bytes {self._received}-"):
            raise Broken("object storage sent another part of the file")

    def _append(self, block: bytes) -> None:
        self._file.write(block)
        self._digest.update(block)
        self._received += len(block)

    async def _start_over(self) -> None:
        # The server ignored the range and sends the whole file again.
        await asyncio.to_thread(self._file.seek, 0)
        await asyncio.to_thread(self._file.truncate)
        self._progress.moved(-self._received)
        self._digest = hashlib.sha256()
        self._received = 0


def _check(status: int) -> None:
    if status in (200, 206):
        return
    if status >= 500 or status in (408, 429):
        raise Broken(f"object storage answered with status {status}")
    problems = {
        403: "Object storage refused the download; the link may have expired.",
        404: "The file no longer exists.",
        412: "The file was replaced while it was downloaded.",
        416: "The file is smaller than announced.",
    }
    raise TransferError(problems.get(status, f"Object storage answered with status {status}."))
