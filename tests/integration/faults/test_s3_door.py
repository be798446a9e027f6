"""What is injected into requests to S3: the door harms what it was told to, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from faults.s3_door import LOOPBACK, Harm, Operation, S3Door, operation_of

CONTENT = b"0123456789" * 20_000
# What the services and their S3 client ask for.
REQUESTS = [
    ("GET", "/b/k", Operation.GET),
    ("HEAD", "/b/k", Operation.HEAD),
    ("PUT", "/b/k", Operation.PUT),
    ("PUT", "/b/k?partNumber=1&uploadId=u", Operation.PUT),
    ("POST", "/b/k?uploads", Operation.CREATE),
    ("POST", "/b/k?uploadId=u", Operation.COMPLETE),
    ("DELETE", "/b/k?uploadId=u", Operation.ABORT),
    ("DELETE", "/b/k", Operation.DELETE),
    ("POST", "/b?delete", Operation.DELETE),
    ("GET", "/b/k?uploadId=u", Operation.OTHER),
    ("GET", "/b?uploads", Operation.OTHER),
    ("GET", "/b?list-type=2", Operation.OTHER),
    ("GET", "/b?lifecycle", Operation.OTHER),
    ("PUT", "/b/k?tagging", Operation.OTHER),
]


class Behind:
    """A server in the place of S3: it keeps what it was asked, and answers with CONTENT."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes]] = []
        self.operations: list[Operation] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.operations.append(operation_of(request))
        self.seen.append((request.method, request.path_qs, await request.read()))
        return web.Response(body=CONTENT, headers={"ETag": '"e"'})


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
async def door(behind: Behind) -> AsyncIterator[S3Door]:
    """A door in front of it."""
    runner = web.ServerRunner(web.Server(behind.answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    async with S3Door(s3_port=runner.addresses[0][1]) as opened:
        yield opened
    await runner.cleanup()


@pytest.fixture
async def http(door: S3Door) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://{LOOPBACK}:{door.port}") as session:
        yield session


async def get(http: aiohttp.ClientSession, path: str = "/b/k") -> tuple[int, bytes]:
    """Return status and body of an answer."""
    async with asyncio.timeout(10), http.get(path) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize(("method", "path", "operation"), REQUESTS)
async def test_requests_pass_as_they_are_and_are_told_apart(
    door: S3Door,
    behind: Behind,
    http: aiohttp.ClientSession,
    method: str,
    path: str,
    operation: Operation,
) -> None:
    async with http.request(method, path, data=b"body" if method == "PUT" else None) as answer:
        assert answer.status == 200
        assert answer.headers["ETag"] == '"e"'
        assert await answer.read() == (b"" if method == "HEAD" else CONTENT)
    [(seen_method, seen_path, body)] = behind.seen
    assert (seen_method, seen_path.replace("=&", "&").rstrip("=")) == (method, path)
    assert body == (b"body" if method == "PUT" else b"")
    assert behind.operations == [operation]
    assert door.requests == {operation: 1}


async def test_copy_is_told_from_a_put(behind: Behind, http: aiohttp.ClientSession) -> None:
    async with http.put("/b/k", headers={"x-amz-copy-source": "b/other"}):
        assert behind.operations == [Operation.COPY]


@pytest.mark.parametrize(
    ("harm", "status"),
    [(Harm.ERROR_500, 500), (Harm.ERROR_503, 503), (Harm.FORBIDDEN, 403), (Harm.LOST_ANSWER, 500)],
)
async def test_harm_meets_as_many_requests_as_it_was_told(
    door: S3Door, behind: Behind, http: aiohttp.ClientSession, harm: Harm, status: int
) -> None:
    rule = door.harm(Operation.GET, harm, times=2, key="/k")
    answers = [(await get(http, path))[0] for path in ("/b/other", "/b/k", "/b/k", "/b/k")]
    assert answers == [200, status, status, 200]
    assert rule.met == 2
    # What is told to have failed has been carried out only where the answer alone was lost.
    assert len(behind.seen) == (4 if harm is Harm.LOST_ANSWER else 2)


async def complete(http: aiohttp.ClientSession) -> int:
    """Return the status of an answer to a request that aiohttp does not repeat by itself."""
    async with asyncio.timeout(10), http.post("/b/k?uploadId=u") as answer:
        return answer.status


async def test_body_that_is_cut_is_an_error_to_its_reader(
    door: S3Door, http: aiohttp.ClientSession
) -> None:
    door.harm(Operation.GET, Harm.CUT_BODY)
    with pytest.raises(aiohttp.ClientError):
        await get(http)
    assert await get(http) == (200, CONTENT)


async def test_request_that_is_cut_is_not_carried_out(
    door: S3Door, behind: Behind, http: aiohttp.ClientSession
) -> None:
    door.harm(Operation.COMPLETE, Harm.RESET)
    with pytest.raises(aiohttp.ClientError):
        await complete(http)
    assert behind.seen == []
    assert await complete(http) == 200


async def test_request_that_waits_goes_on_when_its_rule_is_over(
    door: S3Door, http: aiohttp.ClientSession
) -> None:
    slow = door.harm(Operation.GET, Harm.SLOW, seconds=3600)
    waiting = asyncio.create_task(get(http))
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()
    slow.over.set()
    assert await waiting == (200, CONTENT)


async def test_healing_cuts_what_is_stalled(door: S3Door, http: aiohttp.ClientSession) -> None:
    door.harm(Operation.COMPLETE, Harm.STALL, times=None)
    waiting = asyncio.create_task(complete(http))
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()
    door.heal()
    with pytest.raises(aiohttp.ClientError):
        await waiting
    assert await complete(http) == 200


async def test_urls_expire_that_were_used_and_no_others(
    door: S3Door, http: aiohttp.ClientSession
) -> None:
    old, new = "/b/k?X-Amz-Signature=old", "/b/k?X-Amz-Signature=new"
    assert (await get(http, old))[0] == 200
    await door.expire_urls()
    assert [(await get(http, url))[0] for url in (old, new, old)] == [403, 200, 403]
    assert door.expired == 2
    door.heal()
    assert (await get(http, old))[0] == 200
