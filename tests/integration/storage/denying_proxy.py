"""A reverse proxy in front of S3 that refuses some requests, as a policy of operators does.

Others it holds, as an S3 does that has much to join.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from yarl import URL

from services.local.ports import LOOPBACK

STATUSES = {"AccessDenied": 403, "NotImplemented": 501}


@dataclass
class DenyingProxy:
    """What is refused or held, and what was asked.

    Attributes:
        endpoint: URL of the proxy.
        code: error code of S3 that refusals answer with.
        denied: refused requests, as method and subresource, such as `PUT lifecycle`; of what
            has none, `HEAD object` and the like.
        held: requests that wait until `release` is set, written in the same way.
        asked: how often each of them came.
    """

    endpoint: str
    code: str = "AccessDenied"
    denied: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    asked: Counter[str] = field(default_factory=Counter)


@asynccontextmanager
async def denying_proxy(s3_endpoint: str) -> AsyncIterator[DenyingProxy]:
    """Run a proxy in front of an S3 server."""

    async def forward(request: web.Request) -> web.Response:
        of_object = "/" in request.match_info["path"].strip("/")
        for name in request.query or (["object"] if of_object else []):
            asked = f"{request.method} {name}"
            proxy.asked[asked] += 1
            if asked in proxy.denied:
                text = f"<Error><Code>{proxy.code}</Code><Message>No.</Message></Error>"
                return web.Response(status=STATUSES[proxy.code], text=text)
            if asked in proxy.held:
                await proxy.release.wait()
        # Host and path as they were: the signature covers both.
        url = URL(s3_endpoint + request.raw_path, encoded=True)
        body = await request.read()
        async with session.request(
            request.method, url, headers=request.headers, data=body, skip_auto_headers=("Accept",)
        ) as answer:
            headers = answer.headers.copy()
            headers.pop("Transfer-Encoding", None)
            if request.method != "HEAD":  # whose length is that of the object
                headers.pop("Content-Length", None)
            body = await answer.read()
            return web.Response(status=answer.status, headers=headers, body=body or None)

    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    proxy = DenyingProxy(f"http://{LOOPBACK}:{runner.addresses[0][1]}")
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            yield proxy
    finally:
        await runner.cleanup()
