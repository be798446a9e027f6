"""The blocking client ends what it began: after Ctrl-C, and when it is closed."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import warnings
from collections.abc import AsyncGenerator, Iterator

import pytest

from videoexport.client import AsyncClient, Client, ClientClosed, ServiceUnreachable, Timeouts
from videoexport.v1 import export_pb2

# Nothing listens on port 1, the tcpmux of old.
NOBODY = "127.0.0.1:1"


class Work:
    """A call that takes for ever, and a moment to undo what it began."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.undone = False

    async def __call__(self, export_id: str) -> export_pb2.Export:
        self.began.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.3)
            self.undone = True
        raise AssertionError("nobody waits so long")


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """What `get` does."""
    work = Work()

    async def get(_: AsyncClient, export_id: str, *, history: bool = False) -> export_pb2.Export:
        return await work(export_id)

    monkeypatch.setattr(AsyncClient, "get", get)
    return work


@pytest.fixture
def client() -> Iterator[Client]:
    """A client that no service knows of."""
    with Client(NOBODY, user="ann", timeouts=Timeouts(connect=0.1)) as opened:
        yield opened


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What becomes of a watch: `closed`."""
    ends: list[str] = []

    async def watch(_: AsyncClient, export_id: str) -> AsyncGenerator[export_pb2.Export, None]:
        try:
            while True:
                yield export_pb2.Export(id=export_id)
                await asyncio.sleep(0.01)
        finally:
            await asyncio.sleep(0)
            ends.append("closed")

    monkeypatch.setattr(AsyncClient, "watch", watch)
    return ends


def test_interrupt_is_raised_once_the_call_has_undone_its_work(client: Client, work: Work) -> None:
    def interrupt() -> None:
        work.began.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        client.get("exp_1")
    assert work.undone


def test_close_waits_until_calls_of_other_threads_have_undone_their_work(
    client: Client, work: Work
) -> None:
    heard: list[str] = []

    def call() -> None:
        try:
            client.get("exp_1")
        except ClientClosed as error:
            heard.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    work.began.wait()
    client.close()
    assert work.undone
    thread.join()
    assert heard == ["The client is closed."]


def test_call_after_close_is_one_plain_error(client: Client) -> None:
    client.close()
    client.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in (
            client.encoders,
            lambda: client.get("exp_1"),
            lambda: client.wait("exp_1", timeout=1),
            lambda: list(client.list()),
            lambda: next(iter(client.watch("exp_1"))),
        ):
            with pytest.raises(ClientClosed, match=r"^The client is closed\.$"):
                call()
        gc.collect()


def test_iterator_that_outlives_the_client_is_closed_with_it(
    client: Client, watched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    states = client.watch("exp_1")
    other = client.watch("exp_1")
    assert next(states).id == next(other).id == "exp_1"
    client.close()
    assert watched == ["closed", "closed"]
    with pytest.raises(ClientClosed):
        next(other)
    del states
    gc.collect()
    assert unraisable == []


def test_wait_gives_up_after_its_timeout(client: Client, watched: list[str]) -> None:
    with pytest.raises(TimeoutError):
        client.wait("exp_1", timeout=0.1)
    assert watched == ["closed"]


def test_errors_of_a_call_arrive(client: Client) -> None:
    with pytest.raises(ServiceUnreachable):
        client.encoders()
