"""An object over HTTP as S3 serves it, that can be made to fail in every way S3 can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

from services.encoder.sources.gateway import SourceObject

# What a fault does with a request: answers it, or leaves it to the server with None.
Fault = Callable[["ObjectServer", web.Request], web.StreamResponse | None]


@dataclass
class ObjectServer:
    """One object behind presigned URLs.

    Attributes:
        content: the object's bytes.
        etag: without quotes; another one is another version.
        faults: called in turn, one a request, before the object is served.
        requests: the Range headers of the requests so far.
        bytes_sent: of bodies, in ranges that were asked for.
        cut_after: when set, the next body breaks off after so many bytes.
        trickle: when set, bodies come one byte at a time, so many seconds apart.
        signed: URLs signed so far.
    """

    content: bytes
    etag: str = "0123456789abcdef0123456789abcdef"
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    bytes_sent: int = 0
    cut_after: int | None = None
    trickle: float | None = None
    signed: int = 0
    address: str = ""

    def source(self) -> SourceObject:
        """The object as the gateway is told of it."""
        return SourceObject(sign=self.sign, etag=self.etag, size_bytes=len(self.content))

    async def sign(self) -> str:
        """A fresh URL; its signature is its number."""
        self.signed += 1
        return f"{self.address}/bucket/object?X-Amz-Signature={self.signed}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        self.requests.append(request.headers.get("Range", ""))
        if self.faults:
            answer = self.faults.pop(0)(self, request)
            if answer is not None:
                return answer
        if request.headers.get("If-Match", f'"{self.etag}"') != f'"{self.etag}"':
            return web.Response(status=412)
        start, end, _ = request.http_range.indices(len(self.content))
        if start >= end:
            return web.Response(status=416)
        response = web.StreamResponse(status=206)
        response.headers["ETag"] = f'"{self.etag}"'
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(self.content)}"
        response.content_length = end - start
        await response.prepare(request)
        body = self.content[start:end]
        if self.cut_after is not None:
            body, self.cut_after = body[: self.cut_after], None
            await response.write(body)
            assert request.transport is not None
            request.transport.close()
            return response
        if self.trickle is not None:
            for byte in body:
                await response.write(bytes([byte]))
                await asyncio.sleep(self.trickle)
        self.bytes_sent += len(body)
        await response.write(body)
        await response.write_eof()
        return response

    @classmethod
    @asynccontextmanager
    async def serving(cls, content: bytes) -> AsyncIterator[Self]:
        """Serve `content` on a free loopback port."""
        server = cls(content)
        application = web.Application()
        application.router.add_get("/bucket/object", server.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            server.address = "http://{}:{}".format(*runner.addresses[0][:2])
            yield server
        finally:
            await runner.cleanup()


def status(code: int) -> Fault:
    """A fault that answers with a status."""
    return lambda _server, _request: web.Response(status=code)


def no_answer(_server: ObjectServer, request: web.Request) -> web.StreamResponse | None:
    """A fault that closes the connection without an answer."""
    assert request.transport is not None
    request.transport.close()
    return None
