"""A reverse proxy in front of S3 that fails as S3 does: 500, 503, slow, cut, answers lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

LOOPBACK = "127.0.0.1"
BLOCK_BYTES = 64 * 1024
# What the proxy's own connection has of its own.
HOP_BY_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding")
# What a request with one of these in its query is about is no object.
_BESIDE_OBJECTS = frozenset({"tagging", "lifecycle", "list-type", "location", "acl"})
# Longer than any limit that is to be met.
STALL_SECONDS = 3600.0


class Operation(Enum):
    """What a request asks of S3."""

    GET = "get"
    HEAD = "head"
    PUT = "put"  # an object or a part of an upload
    COPY = "copy"
    CREATE = "create"
    COMPLETE = "complete"
    ABORT = "abort"
    DELETE = "delete"
    OTHER = "other"


class Harm(Enum):
    """What happens to a request."""

    ERROR_500 = "answered 500, and not carried out"
    ERROR_503 = "answered 503, and not carried out"
    FORBIDDEN = "answered 403, as when a presigned URL has expired"
    RESET = "cut before it is carried out"
    STALL = "never answered"
    SLOW = "answered late"
    LOST_ANSWER = "carried out, and answered 500"
    CUT_BODY = "the body of the answer is cut half-way"


@dataclass
class Rule:
    """Which requests suffer what.

    Attributes:
        times: how many requests, of those that match; None for all until healed.
        key: only of objects whose key contains this.
        seconds: of a slow one.
        met: how many did so far.
        over: ends the waiting of those that are stalled or slow.
    """

    operation: Operation
    harm: Harm
    times: int | None = 1
    key: str = ""
    seconds: float = 2.0
    met: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def applies(self, operation: Operation, path: str) -> bool:
        """Whether the next such request suffers."""
        left = self.times is None or self.met < self.times
        return left and operation is self.operation and self.key in path

    async def wait(self, seconds: float) -> None:
        """Keep a request waiting."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()


def _ignore(_operation: Operation, _path: str) -> None:
    """Take no notice of a request."""


@dataclass
class S3Door:
    """The proxy; an async context manager.

    Attributes:
        rules: the first that applies to a request does.
        requests: how many of each operation came.
        on_request: called with every request before it is carried out.
        expired: how many requests came with a URL that counts as expired.
    """

    s3_port: int
    rules: list[Rule] = field(default_factory=list)
    requests: Counter[Operation] = field(default_factory=Counter)
    on_request: Callable[[Operation, str], None] = _ignore
    expired: int = 0
    port: int = field(init=False, default=0)
    _signatures: set[str] = field(init=False, default_factory=set)
    _expired: set[str] = field(init=False, default_factory=set)

    async def __aenter__(self) -> Self:
        """Serve while the block runs."""
        self._session = aiohttp.ClientSession(auto_decompress=False)
        # Cancelled when the caller has gone, so that nothing is carried out for nobody.
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every connection."""
        await self._runner.cleanup()
        await self._session.close()

    def harm(self, operation: Operation, harm: Harm, **more: object) -> Rule:
        """Add a rule; see `Rule` for the rest. Return it, to see how often it applied."""
        rule = Rule(operation, harm, **more)  # type: ignore[arg-type]
        self.rules.append(rule)
        return rule

    async def expire_urls(self) -> None:
        """Let every presigned URL that was used so far expire."""
        signatures = set(self._signatures)
        # S3 signs to the second: made anew within the same one, a URL is the same.
        await asyncio.sleep(1.0 - time.time() % 1.0)
        self._expired |= signatures

    def heal(self) -> None:
        """Let every request be carried out from now on; those that are stalled are cut."""
        for rule in self.rules:
            rule.over.set()
        self.rules.clear()
        self._signatures.clear()
        self._expired.clear()
        self.on_request = _ignore

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        operation = operation_of(request)
        self.requests[operation] += 1
        self.on_request(operation, request.path)
        if signature := request.query.get("X-Amz-Signature"):
            if signature in self._expired:
                self.expired += 1
                return web.Response(status=403, text=_error("AccessDenied"))
            self._signatures.add(signature)
        rule = next((each for each in self.rules if each.applies(operation, request.path)), None)
        if rule is None:
            return await self._forward(request)
        rule.met += 1
        match rule.harm:
            case Harm.ERROR_500:
                return web.Response(status=500, text=_error("InternalError"))
            case Harm.ERROR_503:
                return web.Response(status=503, text=_error("SlowDown"))
            case Harm.FORBIDDEN:
                return web.Response(status=403, text=_error("AccessDenied"))
            case Harm.RESET:
                return _cut(request)
            case Harm.STALL:
                await rule.wait(STALL_SECONDS)
                return _cut(request)
            case Harm.SLOW:
                await rule.wait(rule.seconds)
                return await self._forward(request)
            case Harm.LOST_ANSWER:
                await self._forward(request, answer=False)
                return web.Response(status=500, text=_error("InternalError"))
            case Harm.CUT_BODY:
                return await self._forward(request, cut=True)

    async def _forward(
        self, request: web.BaseRequest, *, answer: bool = True, cut: bool = False
    ) -> web.StreamResponse:
        """Carry a request out; return its answer, which may be cut, or kept back."""
        # Host and path as they were: the signature covers both.
        url = URL(f"http://{LOOPBACK}:{self.s3_port}{request.raw_path}", encoded=True)
        headers = request.headers.copy()
        for name in HOP_BY_HOP:
            headers.popall(name, None)
        body = _blocks(request) if request.body_exists else None
        try:
            async with self._session.request(
                *(request.method, url),
                headers=headers,
                data=body,
                skip_auto_headers=("Accept", "User-Agent", "Content-Type"),
            ) as theirs:
                ours = web.StreamResponse(status=theirs.status)
                for name, value in theirs.headers.items():
                    if name not in HOP_BY_HOP:
                        ours.headers.add(name, value)
                if not answer:
                    await theirs.read()
                    return ours
                await ours.prepare(request)
                limit = (theirs.content_length or 0) // 2 if cut else None
                sent = 0
                async for block in theirs.content.iter_chunked(BLOCK_BYTES):
                    piece = block if limit is None else block[: limit - sent]
                    await ours.write(piece)
                    sent += len(piece)
                    if limit is not None and sent >= limit:
                        return _cut(request)
                await ours.write_eof()
                return ours
        except aiohttp.ClientError:
            # S3 itself is away.
            return _cut(request)


def operation_of(request: web.BaseRequest) -> Operation:
    """Return what a request asks for, by its method and its query."""
    query = request.query
    if not _BESIDE_OBJECTS.isdisjoint(query):
        return Operation.OTHER
    match request.method:
        # With an upload's id it lists the parts.
        case "GET" if "uploads" not in query and "uploadId" not in query:
            return Operation.GET
        case "HEAD":
            return Operation.HEAD
        case "PUT" if "x-amz-copy-source" in request.headers:
            return Operation.COPY
        case "PUT":
            return Operation.PUT
        case "POST" if "uploads" in query:
            return Operation.CREATE
        case "POST" if "uploadId" in query:
            return Operation.COMPLETE
        case "DELETE" if "uploadId" in query:
            return Operation.ABORT
        case "DELETE":
            return Operation.DELETE
        case "POST" if "delete" in query:
            return Operation.DELETE
        case _:
            return Operation.OTHER


async def _blocks(request: web.BaseRequest) -> AsyncIterator[bytes]:
    async for block in request.content.iter_chunked(BLOCK_BYTES):
        yield block


def _cut(request: web.BaseRequest) -> web.StreamResponse:
    """Reset the connection; the response that is returned reaches nobody."""
    with suppress(AttributeError):  # it may have gone already
        request.transport.abort()  # type: ignore[union-attr]
    return web.Response(status=500)


def _error(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
