"""Reads one object at one version from S3: retried, resumed, kept for a while, counted."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

from services.common.errors import DomainError
from services.encoder.errors import MediaError, SourceChanged, SourceNotFound, SourceUnavailable

# Small enough that little is read in vain around a cut; sequential reading soon
# asks for many at once, so that a request's latency does not matter.
BLOCK_BYTES = 64 << 10
MAX_REQUEST_BLOCKS = 32
# An index that several inputs read in turn, and the pictures that they share.
CACHE_BYTES = 64 << 20
# Places at which the inputs of one run may be reading.
_RUNS_KEPT = 128

SIGN_TIMEOUT = 10.0
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 10.0
# Bytes a second. Storage is near; what is slower is no slow line but a connection that is kept
# open by a byte now and then, and FFmpeg would wait for it.
LEAST_RATE = 64 << 10
FIRST_DELAY, MAX_DELAY = 0.2, 5.0
# Fresh signatures that are tried before a refusal is believed.
_SIGNATURES = 2

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class SourceObject:
    """An object at one version.

    Attributes:
        sign: returns a fresh presigned URL. A DomainError that is not retryable
            (no such object) is final.
        etag: of the version; another one is another source.
        size_bytes: of the object.
        read_whole: whether all of it will be read, so that nothing is in vain.
        latest: returns the newest version, where that is as good as this one. Asked for
            while nothing of this one was read.
    """

    sign: Callable[[], Awaitable[str]]
    etag: str
    size_bytes: int
    read_whole: bool = False
    latest: Callable[[], Awaitable[SourceObject]] | None = None


class _TryAgain(Exception):
    """This request failed; the next one may not."""


class _Refused(_TryAgain):
    """S3 does not accept the signature, which may have run out."""


@dataclass(slots=True)
class SourceReader:
    """Blocks of an object.

    Attributes:
        give_up_after: seconds of failing after which the source is lost.
        bytes_read: body bytes received from S3 so far.
        failure: why the source is lost for good, once it is.
        on_lost: called with `failure` when that happens.
    """

    source: SourceObject
    session: aiohttp.ClientSession
    give_up_after: float
    on_lost: Callable[[MediaError | DomainError], None] | None = None
    bytes_read: int = 0
    failure: MediaError | DomainError | None = None
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    _url: str | None = None
    _blocks: OrderedDict[int, bytes] = field(default_factory=OrderedDict)
    _pending: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    # Block at which a sequential reading goes on -> blocks it has read so far.
    _runs: OrderedDict[int, int] = field(default_factory=OrderedDict)

    @property
    def block_count(self) -> int:
        """How many blocks the object has."""
        return -(-self.source.size_bytes // BLOCK_BYTES)

    async def block(self, number: int) -> bytes:
        """Return one block, complete.

        Raises:
            MediaError, DomainError: the source is lost; `failure` says the same.
        """
        while True:
            if self.failure is not None:
                raise self.failure
            if (block := self._blocks.get(number)) is not None:
                self._blocks.move_to_end(number)
                return block
            if number not in self._pending:
                self._start_request(number)
            # Several inputs may wait for it, so none of them may cancel it.
            await asyncio.shield(self._pending[number])

    async def close(self) -> None:
        """End what is still being read."""
        requests = set(self._pending.values())
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        self._blocks.clear()

    def _start_request(self, first: int) -> None:
        run = self._runs.pop(first, 0)
        # A quarter of what this reading has taken so far: at most that much is in vain.
        count = 1
        for number in range(first + 1, min(first + self._ahead(run), self.block_count)):
            if number in self._blocks or number in self._pending:
                break
            count += 1
        self._runs[first + count] = run + count
        if len(self._runs) > _RUNS_KEPT:
            self._runs.popitem(last=False)
        request = asyncio.create_task(self._request(first, count))
        for number in range(first, first + count):
            self._pending[number] = request

    def _ahead(self, run: int) -> int:
        if self.source.read_whole:
            return MAX_REQUEST_BLOCKS
        return max(1, min(MAX_REQUEST_BLOCKS, run // 4))

    async def _request(self, first: int, count: int) -> None:
        try:
            data = await self._read_range(
                first * BLOCK_BYTES, min((first + count) * BLOCK_BYTES, self.source.size_bytes)
            )
        except (MediaError, DomainError) as error:
            self.failure = self.failure or error
            self.failed.set()
            if self.on_lost is not None:
                self.on_lost(self.failure)
        else:
            for index in range(count):
                begin = index * BLOCK_BYTES
                self._blocks[first + index] = data[begin : begin + BLOCK_BYTES]
            while len(self._blocks) * BLOCK_BYTES > CACHE_BYTES:
                self._blocks.popitem(last=False)
        finally:
            for number in range(first, first + count):
                del self._pending[number]

    async def _read_range(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end`, going on where a body broke off."""
        loop = asyncio.get_running_loop()
        data = bytearray()
        delay, refusals = FIRST_DELAY, 0
        give_up = loop.time() + self.give_up_after
        while True:
            received, began = len(data), loop.time()
            try:
                await self._receive(start + received, end, data)
                return bytes(data)
            except _Refused as error:
                refusals += 1
                if refusals > _SIGNATURES:
                    raise SourceUnavailable("storage refuses access to the source") from error
                self._url = None
            except SourceChanged:
                if not await self._take_latest():
                    raise
            except (_TryAgain, aiohttp.ClientError, TimeoutError, OSError) as error:
                got = len(data) - received
                if got and got >= LEAST_RATE * (loop.time() - began):
                    delay, give_up = FIRST_DELAY, loop.time() + self.give_up_after
                if loop.time() + delay > give_up:
                    raise SourceUnavailable(
                        "the source could not be read from storage, although it was tried "
                        f"again for {self.give_up_after:g} s"
                    ) from error
                await asyncio.sleep(delay)
                delay = min(2 * delay, MAX_DELAY)

    async def _receive(self, start: int, end: int, data: bytearray) -> None:
        """Append the bytes of one response to `data`; raise unless it was complete."""
        headers = {
            "Range": f"bytes={start}-{end - 1}",
            "If-Match": f'"{self.source.etag.strip(chr(34))}"',
            "Accept-Encoding": "identity",
        }
        url = self._url or await self._sign()
        async with (
            asyncio.timeout(READ_TIMEOUT + (end - start) / LEAST_RATE),
            self.session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            self._check(response, start, end)
            async for chunk in response.content.iter_any():
                data += chunk
                self.bytes_read += len(chunk)
        # aiohttp raises for a body shorter than announced, and reads no longer one.

    async def _take_latest(self) -> bool:
        """Go on with the newest version; return False where it is not as good as this one."""
        before = self.source
        if before.latest is None or self.bytes_read:
            return False
        latest = await before.latest()
        # Readers were told the size already.
        if latest.etag == before.etag or latest.size_bytes != before.size_bytes:
            return False
        self.source = latest
        return True

    async def _sign(self) -> str:
        try:
            async with asyncio.timeout(SIGN_TIMEOUT):
                self._url = await self.source.sign()
        except DomainError as error:
            if not error.retryable:
                raise
            raise _TryAgain("signing failed") from error
        return self._url

    def _check(self, response: aiohttp.ClientResponse, start: int, end: int) -> None:
        """Raise unless the response is the asked range of the version that was planned."""
        if response.status in (401, 403):
            raise _Refused
        if response.status in (404, 410):
            raise SourceNotFound("the source is no longer in storage")
        if response.status in (412, 416):
            raise SourceChanged("the source was overwritten since the export was planned")
        if response.status in (408, 429) or response.status >= 500:
            raise _TryAgain
        given = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status != 206 or given is None:
            raise SourceUnavailable(f"storage answered {response.status} to a ranged request")
        etag = response.headers.get("ETag", "").strip('"')
        # A server may not know If-Match.
        if int(given[3]) != self.source.size_bytes or etag != self.source.etag.strip('"'):
            raise SourceChanged("the source was overwritten since the export was planned")
        if (int(given[1]), int(given[2])) != (start, end - 1):
            raise SourceUnavailable("storage answered with another range than was asked for")
