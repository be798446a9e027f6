"""Downloads go on where a connection broke, are verified, and appear whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from faulty_proxy import Fault, FaultyProxy, Harm, proxy_running
from storage_rig import ANN, BUCKET, SERVING, Server, Service, service_running, uploaded

from videoexport.transfer import LocalFileError, Patience, TransferError, download
from videoexport.v1 import storage_service_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")

HASTY = Patience(tries=3, first_delay=0.01, longest_delay=0.05, stall=20)


def patience_for(harm: Harm) -> Patience:
    """Return HASTY; for a stall, one that notices it soon."""
    return replace(HASTY, stall=1) if harm is Harm.STALL else HASTY


SIZE = 4_000_000
BODY = hashlib.shake_128(b"videoexport").digest(SIZE)
SHA256 = hashlib.sha256(BODY).hexdigest()

Prox = tuple[FaultyProxy, Service]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def proxied(s3: Server) -> AsyncIterator[Prox]:
    """A service that signs URLs for a proxy which breaks connections."""
    async with proxy_running(s3.part.endpoint) as proxy:
        settings = s3.settings("proxied-down", public_s3_endpoint=proxy.endpoint)
        async with service_running(settings) as service:
            await service.until(SERVING)
            yield proxy, service


@pytest.fixture
def proxy(proxied: Prox) -> FaultyProxy:
    """The proxy without faults, for downloads."""
    proxy = proxied[0]
    proxy.uploading, proxy.always, proxy.faults, proxy.carried = False, None, [], 0
    proxy.requests.clear()
    return proxy


@pytest_asyncio.fixture(loop_scope="session")
async def stat(proxied: Prox, http: aiohttp.ClientSession) -> pb.ObjectStat:
    """An object of BODY; uploaded before the proxy gets its faults."""
    proxied[0].always, proxied[0].faults = None, []
    return await uploaded(proxied[1], http, BODY)


@pytest_asyncio.fixture(loop_scope="session")
async def url(proxied: Prox, stat: pb.ObjectStat, proxy: FaultyProxy) -> str:
    """A URL of that object."""
    request = pb.SignDownloadRequest(object=stat.object)
    return (await proxied[1].stub.SignDownload(request, metadata=ANN)).url


@pytest_asyncio.fixture(loop_scope="session")
async def fresh() -> AsyncIterator[aiohttp.ClientSession]:
    """A session without connections, so that the next one is the first through the proxy."""
    async with aiohttp.ClientSession() as session:
        yield session


async def save(
    session: aiohttp.ClientSession,
    url: str,
    path: Path,
    *,
    size: int = SIZE,
    sha256: str = SHA256,
    replace: bool = True,
    on_progress: Callable[[int], None] = lambda _: None,
    patience: Patience = HASTY,
) -> None:
    await download(
        session,
        url,
        path,
        expected_size=size,
        expected_sha256=sha256,
        replace=replace,
        on_progress=on_progress,
        patience=patience,
    )


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_download_replaces_the_file(
    url: str, fresh: aiohttp.ClientSession, tmp_path: Path
) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    told: list[int] = []
    await save(fresh, url, target, sha256=SHA256.upper(), on_progress=told.append)
    assert target.read_bytes() == BODY
    assert files_in(tmp_path) == ["out.mp4"]
    assert told == sorted(set(told))
    assert told[-1] == SIZE


@pytest.mark.parametrize("harm", [Harm.CUT, Harm.STALL])
async def test_download_goes_on_where_it_broke_off(
    harm: Harm, url: str, proxy: FaultyProxy, fresh: aiohttp.ClientSession, tmp_path: Path
) -> None:
    proxy.faults = [Fault(harm, after=1_500_000), Fault(harm, after=1_500_000)]
    told: list[int] = []
    patience = patience_for(harm)
    await save(fresh, url, tmp_path / "out.mp4", on_progress=told.append, patience=patience)
    assert (tmp_path / "out.mp4").read_bytes() == BODY
    assert len(proxy.requests) == 3
    assert b"Range: bytes=1" in proxy.requests[1]
    assert b"Range: bytes=2" in proxy.requests[2]
    # What was received is not asked for again; buffers on the way are lost.
    assert proxy.carried < SIZE * 1.5
    assert told == sorted(set(told))


async def test_download_lasts_while_it_moves_on(
    url: str, proxy: FaultyProxy, fresh: aiohttp.ClientSession, tmp_path: Path
) -> None:
    # More breaks than tries, but each brings bytes.
    proxy.faults = [Fault(Harm.CUT, after=500_000)] * (HASTY.tries + 2)
    await save(fresh, url, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == BODY


@pytest.mark.parametrize(
    ("harm", "after", "said"),
    [
        (Harm.CUT, 100, "connection broke"),
        (Harm.STALL, 100, "too few bytes moved"),
        (Harm.FLIP, 2_000_000, "checksum"),
    ],
)
async def test_download_that_fails_for_good_leaves_the_old_file(
    harm: Harm,
    after: int,
    said: str,
    url: str,
    proxy: FaultyProxy,
    fresh: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    proxy.always = Fault(harm, after)
    with pytest.raises(TransferError) as caught:
        await save(fresh, url, target, patience=patience_for(harm))
    assert said in str(caught.value)
    assert "X-Amz" not in str(caught.value)
    assert target.read_bytes() == b"old"
    assert files_in(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize(("size", "said"), [(SIZE - 1, "larger"), (SIZE + 1, "smaller")])
async def test_download_of_another_size_is_refused(
    size: int, said: str, url: str, fresh: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with pytest.raises(TransferError, match=said):
        await save(fresh, url, tmp_path / "out.mp4", size=size, sha256="")
    assert files_in(tmp_path) == []


async def test_download_of_a_bad_url_is_a_sentence(
    url: str, stat: pb.ObjectStat, s3: Server, fresh: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with pytest.raises(TransferError, match="link may have expired"):
        await save(fresh, url[:-1] + ("0" if url[-1] != "0" else "1"), tmp_path / "out.mp4")
    s3.client.delete_object(Bucket=BUCKET, Key=f"videos/ann/{stat.object.source.video_id}")
    with pytest.raises(TransferError, match="no longer exists"):
        await save(fresh, url, tmp_path / "out.mp4")
    assert files_in(tmp_path) == []


async def test_file_replaced_while_it_is_downloaded_is_noticed(
    url: str,
    stat: pb.ObjectStat,
    s3: Server,
    proxy: FaultyProxy,
    fresh: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    proxy.faults = [Fault(Harm.CUT, after=1_500_000)]
    key = f"videos/ann/{stat.object.source.video_id}"

    def on_progress(_: int) -> None:
        s3.client.put_object(Bucket=BUCKET, Key=key, Body=bytes(SIZE))

    with pytest.raises(TransferError, match="replaced"):
        await save(fresh, url, tmp_path / "out.mp4", on_progress=on_progress)


async def test_cancelled_download_leaves_nothing(
    url: str, proxy: FaultyProxy, fresh: aiohttp.ClientSession, tmp_path: Path
) -> None:
    proxy.faults = [Fault(Harm.STALL, after=1_500_000)]
    begun = asyncio.Event()
    task = asyncio.create_task(
        save(fresh, url, tmp_path / "out.mp4", on_progress=lambda _: begun.set())
    )
    await begun.wait()
    assert files_in(tmp_path) != []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_in(tmp_path) == []


async def test_download_into_a_missing_folder_is_a_sentence(
    url: str, fresh: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with pytest.raises(LocalFileError, match=r"out.mp4 cannot be written: No such file"):
        await save(fresh, url, tmp_path / "none" / "out.mp4")


def without_links(*_: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
async def test_download_replaces_no_file_that_appeared_meanwhile(
    url: str,
    fresh: aiohttp.ClientSession,
    tmp_path: Path,
    links: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not links:  # as on exFAT
        monkeypatch.setattr(os, "link", without_links)
    target = tmp_path / "out.mp4"
    await save(fresh, url, target, replace=False)
    assert target.read_bytes() == BODY
    target.unlink()
    (tmp_path / "out-2.mp4").write_bytes(b"another")

    def appear(_: int) -> None:
        target.write_bytes(b"theirs")

    said = r"^out\.mp4 exists by now and was not replaced; the download is out-3\.mp4\.$"
    with pytest.raises(LocalFileError, match=said):
        await save(fresh, url, target, replace=False, on_progress=appear)
    assert files_in(tmp_path) == ["out-2.mp4", "out-3.mp4", "out.mp4"]
    assert target.read_bytes() == b"theirs"
    assert (tmp_path / "out-2.mp4").read_bytes() == b"another"
    assert (tmp_path / "out-3.mp4").read_bytes() == BODY


async def test_download_that_never_has_a_byte_is_given_up(
    fresh: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    async with serving(answer) as empty, asyncio.timeout(5):
        with pytest.raises(TransferError, match="ended early"):
            await save(fresh, empty, tmp_path / "out.mp4")


async def test_download_that_trickles_is_given_up(
    fresh: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Each try brings some bytes, and never is the connection silent for long."""
    answers = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal answers
        answers += 1
        start = request.http_range.start or 0
        response = web.StreamResponse(status=206 if start else 200)
        response.headers["Content-Range"] = f"bytes {start}-{SIZE - 1}/{SIZE}"
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    patience = replace(HASTY, stall=0.3)
    async with serving(answer) as slow, asyncio.timeout(30):
        with pytest.raises(TransferError, match="too few bytes moved"):
            await save(fresh, slow, tmp_path / "out.mp4", patience=patience)
    assert answers == HASTY.tries
    assert files_in(tmp_path) == []


@asynccontextmanager
async def serving(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """Serve one file over HTTP and yield its URL."""
    application = web.Application()
    application.router.add_get("/file", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/file"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("habit", ["ignores ranges", "wrong range", "ends early"])
async def test_download_from_an_odd_server(
    habit: str, fresh: aiohttp.ClientSession, tmp_path: Path
) -> None:
    answers = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal answers
        answers += 1
        start = request.http_range.start or 0
        if start == 0:
            return await send(request, BODY[: SIZE // 2], of=SIZE)
        if habit == "ignores ranges":
            return web.Response(body=BODY)
        if habit == "wrong range" and answers == 2:
            headers = {"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"}
            return web.Response(status=206, body=BODY, headers=headers)
        headers = {"Content-Range": f"bytes {start}-{SIZE - 1}/{SIZE}"}
        return web.Response(status=206, body=BODY[start:], headers=headers)

    async def send(request: web.Request, part: bytes, *, of: int) -> web.StreamResponse:
        """Send less than announced; or announce nothing, so that the end looks like one."""
        response = web.StreamResponse()
        if habit == "ends early":
            response.headers["Connection"] = "close"
        else:
            response.content_length = of
        await response.prepare(request)
        await response.write(part)
        if habit != "ends early" and request.transport is not None:
            request.transport.close()
        return response

    async with serving(answer) as odd:
        await save(fresh, odd, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == BODY
    assert answers == (3 if habit == "wrong range" else 2)
