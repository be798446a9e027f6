"""Sources on loopback HTTP, for child processes.

FFmpeg and the probe read `http://127.0.0.1:PORT/TOKEN`; the gateway reads S3. So
the presigned URL, a secret, is in no process's arguments and can be signed anew in
the middle of an encode; one version is read from beginning to end; what several
inputs of one run read is fetched once; and why a source failed is known from S3's
own answer, not from what FFmpeg made of it.

The token is in FFmpeg's arguments. It lets another user of this machine read the
source while it is encoded; an encoder's machine has none.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Self

import aiohttp
from aiohttp import web

from services.common.errors import DomainError
from services.encoder.commands.pieces import PIECE
from services.encoder.errors import MediaError
from services.encoder.sources.reader import (
    BLOCK_BYTES,
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    SourceObject,
    SourceReader,
)

__all__ = ["PartsHandle", "SourceGateway", "SourceHandle", "SourceObject"]

# Inputs wait for their turn with their connections open, for as long as an encode takes.
_KEEP_ALIVE_SECONDS = 7 * 24 * 3600
_GIVE_UP_AFTER = 30.0
# FFmpeg reads one, and opens the next while the last is still open.
_PARTS_OPEN = 3

Lost = Callable[[MediaError | DomainError], None]
OpenReader = Callable[[SourceObject, Lost], SourceReader]


class SourceHandle:
    """One exposed source.

    Attributes:
        url: where child processes read it.
    """

    def __init__(self, url: str, reader: SourceReader) -> None:
        self.url = url
        self._reader = reader

    @property
    def bytes_read(self) -> int:
        """Bytes received from S3 so far."""
        return self._reader.bytes_read

    @property
    def failure(self) -> MediaError | DomainError | None:
        """Why the source is lost for good; None while it is not."""
        return self._reader.failure

    async def wait_failed(self) -> None:
        """Return once the source is lost for good."""
        await self._reader.failed.wait()


class PartsHandle:
    """Objects that are read one after the other, each from its beginning to its end.

    Only the last ones read are open: a long export has more parts than memory.

    Attributes:
        urls: where a child process reads each, in order.
    """

    def __init__(self, base: str, parts: Sequence[SourceObject], open_reader: OpenReader) -> None:
        self.urls = [f"{base}/{number}" for number in range(len(parts))]
        self._parts = parts
        self._open_reader = open_reader
        self._readers: OrderedDict[int, SourceReader] = OrderedDict()
        self._failed = asyncio.Event()
        self._closed_bytes = 0
        self.failure: MediaError | DomainError | None = None

    @property
    def bytes_read(self) -> int:
        """Bytes received from S3 so far."""
        return self._closed_bytes + sum(reader.bytes_read for reader in self._readers.values())

    async def wait_failed(self) -> None:
        """Return once one of them is lost for good."""
        await self._failed.wait()

    async def reader(self, number: int) -> SourceReader | None:
        """Return the reader of one part; None where there is no such part."""
        if not 0 <= number < len(self._parts):
            return None
        if number not in self._readers:
            self._readers[number] = self._open_reader(self._parts[number], self._lost)
            while len(self._readers) > _PARTS_OPEN:
                await self._close(next(iter(self._readers)))
        self._readers.move_to_end(number)
        return self._readers[number]

    async def close(self) -> None:
        """End what is still being read."""
        for number in list(self._readers):
            await self._close(number)

    async def _close(self, number: int) -> None:
        reader = self._readers.pop(number)
        await reader.close()
        self._closed_bytes += reader.bytes_read

    def _lost(self, failure: MediaError | DomainError) -> None:
        self.failure = self.failure or failure
        self._failed.set()


class SourceGateway:
    """The loopback server of an encoder process; an async context manager.

    Args:
        give_up_after: seconds of failing after which a source is lost.
    """

    def __init__(self, *, give_up_after: float = _GIVE_UP_AFTER) -> None:
        self._give_up_after = give_up_after
        self._readers: dict[str, SourceReader] = {}
        self._parts: dict[str, PartsHandle] = {}
        application = web.Application()
        application.router.add_get("/{token}", self._serve_source)
        application.router.add_get("/{token}/{number:\\d+}", self._serve_part)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            shutdown_timeout=0.0,
        )
        self._address = ""

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT
        )
        self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._address = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    @asynccontextmanager
    async def expose(self, source: SourceObject) -> AsyncIterator[SourceHandle]:
        """Serve a source for as long as the context is open."""
        token = secrets.token_urlsafe(16)
        reader = SourceReader(source, self._session, self._give_up_after)
        self._readers[token] = reader
        try:
            yield SourceHandle(f"{self._address}/{token}", reader)
        finally:
            del self._readers[token]
            await reader.close()

    @asynccontextmanager
    async def expose_parts(self, parts: Sequence[SourceObject]) -> AsyncIterator[PartsHandle]:
        """Serve objects that are read in their order for as long as the context is open."""
        token = secrets.token_urlsafe(16)

        def open_reader(part: SourceObject, lost: Lost) -> SourceReader:
            return SourceReader(part, self._session, self._give_up_after, on_lost=lost)

        handle = PartsHandle(f"{self._address}/{token}", parts, open_reader)
        self._parts[token] = handle
        try:
            yield handle
        finally:
            del self._parts[token]
            await handle.close()

    async def _serve_source(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, self._readers.get(request.match_info["token"]))

    async def _serve_part(self, request: web.Request) -> web.StreamResponse:
        handle = self._parts.get(request.match_info["token"])
        reader = await handle.reader(int(request.match_info["number"])) if handle else None
        return await self._serve(request, reader)

    async def _serve(self, request: web.Request, reader: SourceReader | None) -> web.StreamResponse:
        if reader is None:
            raise web.HTTPNotFound
        if reader.failure is not None:
            # Not a 5xx, which FFmpeg would try again.
            raise web.HTTPGone
        first, after = _piece(request, reader.source.size_bytes)
        size = after - first
        start, end = _range(request, size)
        partial = "Range" in request.headers
        response = web.StreamResponse(status=206 if partial else 200)
        response.headers["Accept-Ranges"] = "bytes"
        response.content_length = end - start
        if partial:
            response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        # The reader has gone away, which is how FFmpeg leaves off reading.
        with suppress(ConnectionError):
            await self._send(reader, first + start, first + end, response, request)
        return response

    async def _send(
        self,
        reader: SourceReader,
        start: int,
        end: int,
        response: web.StreamResponse,
        request: web.Request,
    ) -> None:
        position = start
        while position < end:
            number, offset = divmod(position, BLOCK_BYTES)
            try:
                block = await reader.block(number)
            except (MediaError, DomainError):
                # Cut, so that no reader takes what it has for the whole.
                if request.transport is not None:
                    request.transport.abort()
                return
            piece = block[offset : offset + end - position]
            await response.write(piece)
            position += len(piece)
        await response.write_eof()


def _piece(request: web.Request, size: int) -> tuple[int, int]:
    """Return the first byte of the piece that is a file of its own here, and the one after it.

    Raises:
        HTTPNotFound: there is no such piece.
    """
    asked = request.query.get(PIECE)
    if asked is None:
        return 0, size
    first, _, after = asked.partition("-")
    if not (first.isdecimal() and after.isdecimal() and int(first) < int(after) <= size):
        raise web.HTTPNotFound
    return int(first), int(after)


def _range(request: web.Request, size: int) -> tuple[int, int]:
    """Return the first byte that is asked for and the one after the last.

    Raises:
        HTTPRequestRangeNotSatisfiable: none of the object, or not one range.
    """
    try:
        asked = request.http_range
    except ValueError:
        asked = slice(size, None)
    start, end, _ = asked.indices(size)
    if start >= end:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return start, end
