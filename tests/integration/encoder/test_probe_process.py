"""The processes that read media: ended in time, replaced when they die, honest about defects."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from fractions import Fraction
from pathlib import Path

import psutil
import pytest

from services.encoder.deadline import Deadline
from services.encoder.errors import InvalidSource, TimeLimitExceeded
from services.encoder.inspection.fork_server import ForkServer
from services.encoder.inspection.probe import (
    AnswerTooLong,
    ReadingFailed,
    ask,
    look_for_damage,
    probe,
    read_cues,
    start_fork_server,
    verify_output,
)
from services.encoder.inspection.protocol import BEGUN, DEFECT
from services.encoder.sources.gateway import SourceGateway
from services.encoder.tasks.copying import check_joins, copy_part, survey
from tests.integration.encoder.conftest import MakeClip
from tests.integration.encoder.probing import probe_bytes
from tests.media.frame_codes import Clip
from tests.media.object_server import ObjectServer
from tests.media.watermarks import LIMIT
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """A server that takes connections and never answers."""
    held: set[asyncio.StreamWriter] = set()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.add(writer)
        await reader.read()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
    finally:
        # Or a later test would be blamed for a connection that nobody has closed; one may just
        # have been taken.
        await asyncio.sleep(0.05)
        for writer in held:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def fork_servers() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if "services.encoder.inspection.fork_server" in " ".join(child.cmdline())
    ]


def media_children() -> list[psutil.Process]:
    """The children of the fork server."""
    return [child for server in fork_servers() for child in server.children()]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.02)


async def test_probe_that_takes_too_long_is_ended() -> None:
    async with silent_server() as url:
        with pytest.raises(TimeLimitExceeded):
            await probe(url, size_bytes=1000, timeout=0.5)
        await eventually(lambda: not media_children())


async def test_looking_into_files_takes_no_longer_than_their_task_has(tmp_path: Path) -> None:
    deadline = Deadline.within(0.5, "encoding")
    info = pb.SourceInfo(size_bytes=1000, container="matroska,webm")
    chunk = task_pb2.VideoChunk(
        info=info, end_frame=10, frame_rate=pb.Rational(numerator=25, denominator=1)
    )
    spans = [(Fraction(0), Fraction(1))]
    async with silent_server() as url:
        # Named is what the task had: the second has none of it left.
        for work in (
            copy_part(url, 1000, chunk, tmp_path, deadline),
            read_cues(url, info, 0, spans, deadline),
            look_for_damage(url, size_bytes=1000, wanted={}, deadline=deadline),
            survey([(url, 1000)], chunk.frame_rate, tmp_path, deadline),
            check_joins(tmp_path, [], chunk.frame_rate, tmp_path, deadline),
            verify_output(tmp_path, deadline=deadline),
        ):
            with pytest.raises(TimeLimitExceeded, match=r"^encoding was not done after 0\.5 s$"):
                await work
        await eventually(lambda: not media_children())


async def test_cancelled_probe_leaves_no_process() -> None:
    async with silent_server() as url:
        waiting = asyncio.create_task(probe(url, size_bytes=1000))
        await eventually(lambda: bool(media_children()))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await eventually(lambda: not media_children())


async def test_descriptors_stay_open_while_a_cancelled_probe_still_sends_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began, go_on, done = threading.Event(), threading.Event(), threading.Event()
    seen: list[list[int]] = []

    def slow(_: bytes, descriptors: list[int]) -> None:
        seen.append([os.fstat(descriptor).st_ino for descriptor in descriptors])
        began.set()
        go_on.wait(5)
        seen.append([os.fstat(descriptor).st_ino for descriptor in descriptors])
        done.set()

    monkeypatch.setattr("services.encoder.inspection.probe._server.send", slow)
    descriptors = psutil.Process().num_fds()
    waiting = asyncio.create_task(probe("http://127.0.0.1:9/x", size_bytes=1000))
    await asyncio.to_thread(began.wait, 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    taken = os.pipe()  # what is opened next would get the numbers
    go_on.set()
    await asyncio.to_thread(done.wait, 5)
    for descriptor in taken:
        os.close(descriptor)
    assert seen[0] == seen[1]
    await eventually(lambda: psutil.Process().num_fds() <= descriptors)


async def test_answer_that_is_too_long_is_blamed_on_no_video(
    clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clip(Clip(frames=20))
    with pytest.raises(AnswerTooLong, match="more than 10 bytes"):
        await ask({"path": str(path), "decode_keyframes": False}, LIMIT, 10)
    # Of what a source is the length is up to the source.
    monkeypatch.setattr("services.encoder.inspection.probe.MAX_ANSWER", 10)
    with pytest.raises(InvalidSource, match="more of itself than can be kept"):
        await probe_bytes(path.read_bytes())


async def test_reader_of_media_knows_nothing_of_the_environment_but_what_it_needs(
    clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "VIDEOEXPORT_NATS_URL", "PGPASSWORD", "http_proxy"):
        monkeypatch.setenv(name, "secret")
    for server in fork_servers():
        server.kill()
        server.wait()
    await probe_bytes(clip(Clip(frames=20)).read_bytes())
    (server,) = fork_servers()
    told = server.environ()
    assert "secret" not in told.values()
    assert told["PATH"] == os.environ["PATH"]
    allowed = {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "LC_ALL", "TZ"}
    allowed.add("OBJC_DISABLE_INITIALIZE_FORK_SAFETY")
    assert {name for name in told if not name.startswith("PYTHON")} <= allowed


async def test_child_that_dies_is_an_invalid_source_and_harms_no_other(clip: MakeClip) -> None:
    async with silent_server() as url:
        waiting = asyncio.create_task(probe(url, size_bytes=1000))
        await eventually(lambda: bool(media_children()))
        media_children()[0].kill()
        with pytest.raises(InvalidSource, match="damaged"):
            await waiting
    assert (await probe_bytes(clip(Clip(frames=20)).read_bytes())).video.frame_count == 20


async def test_defect_of_the_reader_is_told_with_its_traceback_and_blamed_on_no_source(
    clip: MakeClip,
) -> None:
    content = clip(Clip(frames=20)).read_bytes()
    async with (
        ObjectServer.serving(content) as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        with pytest.raises(ReadingFailed, match=r"(?s)Traceback.*inspect_source.*TypeError"):
            await probe(handle.url, size_bytes=len(content), etag=None)  # type: ignore[arg-type]
        # The fork server goes on, and has not become two.
        info = await probe(handle.url, size_bytes=len(content), etag=server.etag)
    assert info.video.frame_count == 20
    await eventually(lambda: not media_children())


async def test_fork_server_that_ends_before_it_forks_blames_no_source() -> None:
    await start_fork_server()
    (server,) = fork_servers()
    server.suspend()
    waiting = asyncio.create_task(probe("http://127.0.0.1:9/x", size_bytes=1000))
    await asyncio.sleep(0.2)
    server.kill()
    with pytest.raises(ReadingFailed, match="ended before it took up the request"):
        await waiting


def test_fork_that_fails_is_told_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fail)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    answer, told = os.pipe()
    lifeline, held = os.pipe()
    with ours, theirs, open(answer, "rb") as answers:
        socket.send_fds(ours, [b"{}"], [told, lifeline])
        ForkServer(theirs).accept()
        for descriptor in (told, lifeline, held):
            os.close(descriptor)
        assert answers.read().startswith(BEGUN + DEFECT + b"Traceback")


async def test_fork_server_is_started_again_when_it_was_killed(clip: MakeClip) -> None:
    await start_fork_server()
    for server in fork_servers():
        server.kill()
        server.wait()
    assert (await probe_bytes(clip(Clip(frames=20)).read_bytes())).video.frame_count == 20
