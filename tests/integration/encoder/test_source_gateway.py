"""What children read through the gateway is the object, whole and at one version, or a failure."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from services.common.errors import DomainError, Reason
from services.encoder.errors import SourceChanged, SourceNotFound, SourceUnavailable
from services.encoder.sources import reader as source_reader
from services.encoder.sources.gateway import SourceGateway, SourceHandle, SourceObject
from services.encoder.sources.reader import BLOCK_BYTES, CACHE_BYTES
from tests.media.object_server import Fault, ObjectServer, no_answer, status

CONTENT = random.Random(1).randbytes(10 * BLOCK_BYTES + 1234)


@asynccontextmanager
async def exposed(
    content: bytes = CONTENT, give_up_after: float = 5.0
) -> AsyncIterator[tuple[ObjectServer, SourceHandle, aiohttp.ClientSession]]:
    async with (
        ObjectServer.serving(content) as server,
        SourceGateway(give_up_after=give_up_after) as gateway,
        gateway.expose(server.source()) as handle,
        aiohttp.ClientSession() as session,
    ):
        yield server, handle, session


async def read(session: aiohttp.ClientSession, url: str, asked: str | None = None) -> bytes:
    headers = {} if asked is None else {"Range": asked}
    async with session.get(url, headers=headers) as response:
        response.raise_for_status()
        return await response.read()


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-", 0, len(CONTENT)),
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        (f"bytes={BLOCK_BYTES - 1}-{BLOCK_BYTES}", BLOCK_BYTES - 1, BLOCK_BYTES + 1),
        (f"bytes={BLOCK_BYTES}-{4 * BLOCK_BYTES - 1}", BLOCK_BYTES, 4 * BLOCK_BYTES),
        ("bytes=-100", len(CONTENT) - 100, len(CONTENT)),
        (f"bytes=600000-{10**9}", 600000, len(CONTENT)),
        (f"bytes={len(CONTENT) - 1}-", len(CONTENT) - 1, len(CONTENT)),
    ],
)
async def test_range_is_served_exactly(asked: str, start: int, end: int) -> None:
    async with exposed() as (_, handle, session):
        async with session.get(handle.url, headers={"Range": asked}) as response:
            assert response.status == 206
            assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
            assert response.headers["Accept-Ranges"] == "bytes"
            assert await response.read() == CONTENT[start:end]
        assert handle.failure is None


async def test_piece_is_a_file_of_its_own() -> None:
    async with exposed() as (_, handle, session):
        url = f"{handle.url}?bytes=70000-200000"
        assert await read(session, url) == CONTENT[70_000:200_000]
        assert await read(session, url, "bytes=100-199") == CONTENT[70_100:70_200]
        assert await read(session, url, "bytes=-10") == CONTENT[199_990:200_000]
        async with session.get(url, headers={"Range": "bytes=129000-999999"}) as response:
            assert response.headers["Content-Range"] == "bytes 129000-129999/130000"
        for piece in ("5-5", "0-700000", "-5", "x-y", "1", ""):
            async with session.get(f"{handle.url}?bytes={piece}") as response:
                assert response.status == 404
        assert handle.failure is None


async def test_whole_object_without_a_range() -> None:
    async with exposed() as (server, handle, session):
        async with session.get(handle.url) as response:
            assert response.status == 200
            assert await response.read() == CONTENT
        assert handle.bytes_read == server.bytes_sent == len(CONTENT)


async def test_head_tells_the_length_and_reads_nothing() -> None:
    async with exposed() as (_, handle, session):
        async with session.head(handle.url) as response:
            assert response.status == 200
            assert int(response.headers["Content-Length"]) == len(CONTENT)
        assert handle.bytes_read == 0


@pytest.mark.parametrize("asked", [f"bytes={len(CONTENT)}-", "bytes=9-5", "items=0-1"])
async def test_range_outside_the_object_is_refused(asked: str) -> None:
    async with exposed() as (_, handle, session):
        async with session.get(handle.url, headers={"Range": asked}) as response:
            assert response.status == 416
        assert handle.failure is None


async def test_unknown_token_is_not_found() -> None:
    async with exposed() as (_, handle, session), session.get(handle.url + "x") as response:
        assert response.status == 404


async def test_source_is_gone_when_it_is_no_longer_exposed() -> None:
    async with (
        ObjectServer.serving(CONTENT) as server,
        SourceGateway() as gateway,
        aiohttp.ClientSession() as session,
    ):
        async with gateway.expose(server.source()) as handle:
            assert await read(session, handle.url) == CONTENT
        async with session.get(handle.url) as response:
            assert response.status == 404


async def test_connection_is_kept_between_requests() -> None:
    async with exposed() as (_, handle, _session):
        reader, writer = await connect(handle.url)
        for _ in range(3):
            writer.write(request(handle.url, "bytes=0-9"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 206 " in head
            assert await reader.readexactly(10) == CONTENT[:10]
        writer.close()


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    match = re.match(r"http://([\d.]+):(\d+)/", url)
    assert match is not None
    return await asyncio.open_connection(match[1], int(match[2]))


def request(url: str, asked: str) -> bytes:
    return f"GET /{url.rpartition('/')[2]} HTTP/1.1\r\nHost: x\r\nRange: {asked}\r\n\r\n".encode()


async def test_what_several_inputs_read_is_fetched_once() -> None:
    async with exposed() as (server, handle, session):
        bodies = await asyncio.gather(*(read(session, handle.url) for _ in range(5)))
        assert all(body == CONTENT for body in bodies)
        assert server.bytes_sent == len(CONTENT)


async def test_reading_on_asks_for_more_at_a_time() -> None:
    content = bytes(256 * BLOCK_BYTES)
    async with exposed(content) as (server, handle, session):
        assert len(await read(session, handle.url)) == len(content)
        assert len(server.requests) < 40
        assert server.bytes_sent == len(content)


async def test_little_is_fetched_beyond_what_is_read() -> None:
    content = bytes(256 * BLOCK_BYTES)
    async with exposed(content) as (_, handle, session):
        for start in (0, 50, 150):
            first = start * BLOCK_BYTES
            await read(session, handle.url, f"bytes={first}-{first + 20 * BLOCK_BYTES - 1}")
        assert handle.bytes_read <= 3 * 25 * BLOCK_BYTES


async def test_reader_that_stops_reading_stops_the_fetching() -> None:
    content = bytes(CACHE_BYTES // 2)
    async with exposed(content) as (server, handle, _):
        reader, writer = await connect(handle.url)
        writer.write(request(handle.url, "bytes=0-"))
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.5)
        held = server.bytes_sent
        await asyncio.sleep(0.3)
        # What fills the buffers of the connection, and no more.
        assert server.bytes_sent == held < len(content) * 3 // 4
        writer.close()


@pytest.mark.parametrize(
    "faults",
    [
        [status(503)],
        [status(500), status(503), status(429)],
        [no_answer],
        [no_answer, status(502), no_answer],
    ],
)
async def test_passing_failure_is_tried_again(faults: list[Fault]) -> None:
    async with exposed() as (server, handle, session):
        server.faults = list(faults)
        assert await read(session, handle.url) == CONTENT
        assert handle.failure is None


async def test_body_that_breaks_off_is_resumed_where_it_broke() -> None:
    async with exposed() as (server, handle, session):
        server.cut_after = 10_000
        assert await read(session, handle.url) == CONTENT
        assert server.requests[:2] == [
            f"bytes=0-{BLOCK_BYTES - 1}",
            f"bytes=10000-{BLOCK_BYTES - 1}",
        ]


async def test_expired_signature_is_made_anew() -> None:
    async with exposed() as (server, handle, session):
        await read(session, handle.url, "bytes=0-99")
        server.faults = [status(403)]
        assert await read(session, handle.url) == CONTENT
        assert server.signed == 2


def whole_object(server: ObjectServer, _request: web.Request) -> web.StreamResponse:
    return web.Response(body=server.content)


def other_range(server: ObjectServer, _request: web.Request) -> web.StreamResponse:
    total = len(server.content)
    headers = {"ETag": f'"{server.etag}"', "Content-Range": f"bytes 1-{BLOCK_BYTES}/{total}"}
    return web.Response(status=206, body=server.content[1 : BLOCK_BYTES + 1], headers=headers)


def other_version(server: ObjectServer, _request: web.Request) -> web.StreamResponse:
    # As a server that does not know If-Match would answer.
    total = len(server.content)
    headers = {"ETag": '"other"', "Content-Range": f"bytes 0-{BLOCK_BYTES - 1}/{total}"}
    return web.Response(status=206, body=server.content[:BLOCK_BYTES], headers=headers)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (status(404), SourceNotFound),
        (status(412), SourceChanged),
        (status(403), SourceUnavailable),
        (status(503), SourceUnavailable),
        (no_answer, SourceUnavailable),
        (whole_object, SourceUnavailable),
        (other_range, SourceUnavailable),
        (other_version, SourceChanged),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_lasting_failure_is_known_and_never_served_as_content(
    fault: Fault, kind: type[Exception]
) -> None:
    async with exposed(give_up_after=0.5) as (server, handle, session):
        server.faults = [fault] * 50
        waiting = asyncio.create_task(handle.wait_failed())
        with pytest.raises(aiohttp.ClientError):
            await read(session, handle.url)
        assert type(handle.failure) is kind
        assert str(server.address) not in str(handle.failure)
        async with asyncio.timeout(1):
            await waiting
        async with session.get(handle.url) as response:
            assert response.status == 410, "a child must not try again for long"


async def test_redirect_is_not_followed() -> None:
    async with ObjectServer.serving(CONTENT) as bait, exposed() as (server, handle, session):
        location = f"{bait.address}/bucket/object"
        server.faults = [lambda *_: web.Response(status=307, headers={"Location": location})] * 50
        with pytest.raises(aiohttp.ClientError):
            await read(session, handle.url)
        assert isinstance(handle.failure, SourceUnavailable)
        assert bait.requests == []


async def test_source_that_trickles_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes come all the time, so no silence ends it."""
    monkeypatch.setattr(source_reader, "READ_TIMEOUT", 0.3)
    monkeypatch.setattr(source_reader, "LEAST_RATE", 10 * BLOCK_BYTES)
    async with exposed(give_up_after=1.0) as (server, handle, session):
        server.trickle = 0.02
        reading = asyncio.create_task(read(session, handle.url))
        await asyncio.wait_for(handle.wait_failed(), 20)
        assert isinstance(handle.failure, SourceUnavailable)
        assert handle.bytes_read > 0
        assert len(server.requests) > 1, "it was tried again"
        with pytest.raises(aiohttp.ClientError):
            await reading


async def test_failure_in_the_middle_cuts_the_body() -> None:
    async with exposed(give_up_after=0.3) as (server, handle, session):
        async with session.get(handle.url) as response:
            assert response.status == 200
            server.faults = [status(404)] * 50
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert isinstance(handle.failure, SourceNotFound)


async def test_source_that_changes_on_the_way_is_noticed() -> None:
    async with exposed() as (server, handle, session):
        await read(session, handle.url, "bytes=0-99")
        server.etag = "another"
        with pytest.raises(aiohttp.ClientError):
            await read(session, handle.url)
        assert isinstance(handle.failure, SourceChanged)


def failing_sign(
    error: Exception, times: int, server: ObjectServer
) -> Callable[[], Awaitable[str]]:
    async def sign() -> str:
        nonlocal times
        times -= 1
        if times >= 0:
            raise error
        return await server.sign()

    return sign


async def read_signed(error: Exception, times: int) -> tuple[bytes | None, Exception | None]:
    async with (
        ObjectServer.serving(CONTENT) as server,
        SourceGateway(give_up_after=0.5) as gateway,
        aiohttp.ClientSession() as session,
    ):
        sign = failing_sign(error, times, server)
        source = SourceObject(sign=sign, etag=server.etag, size_bytes=len(CONTENT))
        async with gateway.expose(source) as handle:
            try:
                return await read(session, handle.url), handle.failure
            except aiohttp.ClientError:
                return None, handle.failure


async def test_signing_that_fails_for_a_moment_is_tried_again() -> None:
    unavailable = DomainError(Reason.STORAGE_UNAVAILABLE, "Storage is away.")
    assert await read_signed(unavailable, times=1) == (CONTENT, None)


async def test_signing_that_goes_on_failing_loses_the_source() -> None:
    unavailable = DomainError(Reason.STORAGE_UNAVAILABLE, "Storage is away.")
    body, failure = await read_signed(unavailable, times=1000)
    assert body is None
    assert isinstance(failure, SourceUnavailable)


async def test_source_that_does_not_exist_is_told_as_such() -> None:
    missing = DomainError(Reason.SOURCE_NOT_FOUND, "There is no such video or object.")
    assert await read_signed(missing, times=1000) == (None, missing)
