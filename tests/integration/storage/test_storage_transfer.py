"""Files arrive whole through connections that break, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from faulty_proxy import Fault, FaultyProxy, Harm, proxy_running
from grpc.aio import AioRpcError
from storage_rig import ANN, BUCKET, PART, SERVING, Server, Service, service_running, source_upload

from services.storage.settings import MIB
from videoexport.transfer import LocalFileError, Patience, TransferError, download, upload_file
from videoexport.v1 import storage_service_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")

MakeFile = Callable[[int], Path]
Prox = tuple[FaultyProxy, Service]

HASTY = Patience(tries=3, first_delay=0.01, longest_delay=0.05, stall=20)


def patience_for(harm: Harm) -> Patience:
    """Return HASTY; for a stall, one that notices it soon."""
    return replace(HASTY, stall=1) if harm is Harm.STALL else HASTY


SIZE = 2 * PART + 1000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def proxied(s3: Server) -> AsyncIterator[Prox]:
    """A service that signs URLs for a proxy which breaks connections."""
    async with proxy_running(s3.part.endpoint) as proxy:
        settings = s3.settings("proxied", public_s3_endpoint=proxy.endpoint)
        async with service_running(settings) as service:
            await service.until(SERVING)
            yield proxy, service


@pytest.fixture
def proxy(proxied: Prox) -> FaultyProxy:
    """The proxy without faults, for uploads."""
    proxy = proxied[0]
    proxy.uploading, proxy.always, proxy.faults, proxy.pace = True, None, [], 0
    proxy.requests.clear()
    return proxy


@pytest.fixture
def service(proxied: Prox) -> Service:
    return proxied[1]


async def upload(
    service: Service, http: aiohttp.ClientSession, path: Path, **options: object
) -> pb.ObjectStat:
    values = {"metadata": ANN, "patience": HASTY, "concurrency": 1} | options
    return await upload_file(service.stub, http, source_upload(0), path, **values)  # type: ignore[arg-type]


def stored(s3: Server, stat: pb.ObjectStat) -> bytes:
    key = f"videos/ann/{stat.object.source.video_id}"
    body: bytes = s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return body


async def test_upload_arrives_whole_and_tells_its_digest(
    s3: Server, proxy: FaultyProxy, service: Service, http: aiohttp.ClientSession, file: MakeFile
) -> None:
    path = file(SIZE)
    told: list[int] = []
    stat = await upload(service, http, path, on_progress=told.append, concurrency=4)
    assert stored(s3, stat) == path.read_bytes()
    assert stat.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told == sorted(set(told))
    assert told[-1] == SIZE


@pytest.mark.parametrize("harm", [Harm.CUT, Harm.STALL, Harm.FLIP, Harm.ANSWER_503])
async def test_upload_sends_a_part_again_after(
    harm: Harm,
    s3: Server,
    proxy: FaultyProxy,
    service: Service,
    http: aiohttp.ClientSession,
    file: MakeFile,
) -> None:
    path = file(SIZE)
    proxy.faults = [Fault(harm, after=3_000_000), Fault(harm, after=PART - 100_000)]
    told: list[int] = []
    stat = await upload(service, http, path, on_progress=told.append, patience=patience_for(harm))
    assert proxy.faults == []
    assert stored(s3, stat) == path.read_bytes()
    assert told == sorted(set(told))
    assert told[-1] == SIZE


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (Harm.CUT, "connection broke"),
        (Harm.STALL, "too few bytes moved"),
        (Harm.FLIP, "status 400"),
        (Harm.ANSWER_503, "status 503"),
    ],
)
async def test_upload_that_fails_for_good_leaves_nothing(
    harm: Harm,
    said: str,
    s3: Server,
    proxy: FaultyProxy,
    service: Service,
    http: aiohttp.ClientSession,
    file: MakeFile,
) -> None:
    before = s3.keys("videos/ann/")
    proxy.always = Fault(harm, after=3_000_000)
    with pytest.raises(TransferError) as caught:
        await upload(service, http, file(SIZE), patience=patience_for(harm))
    assert "Part 1 could not be sent" in str(caught.value)
    assert said in str(caught.value)
    assert "http" not in str(caught.value)
    assert s3.unfinished() == []
    assert s3.keys("videos/ann/") == before


async def test_upload_lasts_while_it_moves_on(
    s3: Server, proxy: FaultyProxy, service: Service, file: MakeFile
) -> None:
    def small_buffered(address: tuple[Any, ...]) -> socket.socket:
        # On loopback the system would take half the part at once, and then nothing for long.
        made = socket.socket(address[0], address[1], address[2])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        return made

    path = file(PART)
    proxy.pace = 0.04
    patience = replace(HASTY, tries=1, stall=1.5)
    started = time.monotonic()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=small_buffered)
    ) as http:
        stat = await upload(service, http, path, patience=patience)
    assert time.monotonic() - started > 2 * patience.stall
    assert stored(s3, stat) == path.read_bytes()


async def test_refused_part_is_told_apart_from_a_broken_connection(
    s3: Server, http: aiohttp.ClientSession, file: MakeFile
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # As S3 does: it answers without reading the body, and hangs up on who sends it anyway.
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    refusing = await asyncio.start_server(refuse, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{refusing.sockets[0].getsockname()[1]}"
    settings = s3.settings("refusing", public_s3_endpoint=endpoint)
    async with refusing, service_running(settings) as service:
        await service.until(SERVING)
        with pytest.raises(TransferError, match="refused the upload"):
            await upload(service, http, file(PART))


async def test_upload_that_somebody_aborts_ends_with_a_sentence(
    s3: Server, proxy: FaultyProxy, service: Service, http: aiohttp.ClientSession, file: MakeFile
) -> None:
    def on_progress(count: int) -> None:
        if count == PART:
            for entry in s3.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
                s3.client.abort_multipart_upload(
                    Bucket=BUCKET, Key=entry["Key"], UploadId=entry["UploadId"]
                )

    with pytest.raises(TransferError, match=r"The upload no longer exists"):
        await upload(service, http, file(SIZE), on_progress=on_progress)


async def test_cancelled_upload_leaves_nothing(
    s3: Server, proxy: FaultyProxy, service: Service, http: aiohttp.ClientSession, file: MakeFile
) -> None:
    before = s3.keys("videos/ann/")
    half_way = asyncio.Event()

    def on_progress(count: int) -> None:
        if count > PART:
            half_way.set()

    task = asyncio.create_task(upload(service, http, file(SIZE), on_progress=on_progress))
    await half_way.wait()
    assert len(s3.unfinished()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert s3.unfinished() == []
    assert s3.keys("videos/ann/") == before


async def test_upload_cancelled_at_any_moment_leaves_nothing(
    s3: Server, proxy: FaultyProxy, service: Service, http: aiohttp.ClientSession, file: MakeFile
) -> None:
    before = set(s3.keys("videos/ann/"))
    path = file(1000)
    finished = set()
    # From before CreateUpload is answered until after CompleteUpload is.
    for step in range(20):
        task = asyncio.create_task(upload(service, http, path))
        await asyncio.sleep(step * 0.003)
        task.cancel()
        try:
            finished.add(f"videos/ann/{(await task).object.source.video_id}")
        except asyncio.CancelledError:
            continue
    assert s3.unfinished() == []
    assert set(s3.keys("videos/ann/")) - before == finished


@pytest.mark.parametrize("change", ["shorter", "longer", "other"])
async def test_file_that_changes_meanwhile_is_not_uploaded(
    change: str,
    s3: Server,
    proxy: FaultyProxy,
    service: Service,
    http: aiohttp.ClientSession,
    file: MakeFile,
) -> None:
    before = s3.keys("videos/ann/")
    path = file(SIZE)

    def on_progress(count: int) -> None:
        if change == "shorter":
            os.truncate(path, 1000)
        elif change == "longer" and count > PART:
            with path.open("ab") as end:
                end.write(b"more")
        elif change == "other" and count == SIZE:
            # The time of the change must differ, whatever the file system's resolution.
            os.utime(path, ns=(0, 0))

    with pytest.raises(LocalFileError, match=r"shorter|changed"):
        await upload(service, http, path, on_progress=on_progress)
    assert s3.unfinished() == []
    assert s3.keys("videos/ann/") == before


async def test_upload_outlasts_an_outage_while_completing(
    s3: Server, http: aiohttp.ClientSession, file: MakeFile
) -> None:
    # The service itself reaches S3 through the proxy here, clients go straight.
    async with proxy_running(s3.part.endpoint) as away:
        settings = s3.settings(
            "away", s3_endpoint=away.endpoint, public_s3_endpoint=s3.part.endpoint
        )
        async with service_running(settings) as service:
            await service.until(SERVING)
            path = file(SIZE)
            patience = Patience(tries=8, first_delay=0.2, longest_delay=1)

            def on_progress(count: int) -> None:
                if count == SIZE:
                    away.cut_all()
                    asyncio.get_running_loop().call_later(1.5, setattr, away, "refuse", False)

            stat = await upload(service, http, path, on_progress=on_progress, patience=patience)
            assert away.refused > 0
            assert stored(s3, stat) == path.read_bytes()


async def test_transfers_hold_neither_file_nor_part_in_memory(
    s3: Server, http: aiohttp.ClientSession, file: MakeFile, tmp_path: Path
) -> None:
    size = 24 * MIB
    async with service_running(s3.settings("large", part_size_bytes=size)) as service:
        await service.until(SERVING)
        path = file(size)
        tracemalloc.start()
        try:
            stat = await upload(service, http, path)
            request = pb.SignDownloadRequest(object=stat.object)
            signed = await service.stub.SignDownload(request, metadata=ANN)
            await download(
                http,
                signed.url,
                tmp_path / "out",
                expected_size=size,
                expected_sha256=stat.sha256,
            )
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 6 * MIB


async def test_refused_upload_is_the_services_error(
    service: Service, http: aiohttp.ClientSession, file: MakeFile
) -> None:
    with pytest.raises(AioRpcError):
        await upload_file(service.stub, http, pb.CreateUploadRequest(), file(5), metadata=ANN)


async def test_file_that_cannot_be_read_is_a_sentence(
    service: Service, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.mov"
    empty.touch()
    for path, said in (
        (tmp_path / "none.mov", "none.mov cannot be read: No such file or directory."),
        (tmp_path, "cannot be read: Is a directory."),
        (empty, "empty.mov is empty."),
    ):
        with pytest.raises(TransferError) as caught:
            await upload(service, http, path)
        assert str(caught.value).endswith(said)
