"""Reads media in short-lived child processes: what a source is, what an output became.

The children come from a fork server: a process that was executed anew, without
gRPC and threads, has PyAV loaded, and forks in milliseconds.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from services.encoder.child import (
    INVALID,
    OK,
    PRELOADED,
    UNAVAILABLE,
    answer_about_output,
    answer_about_source,
)
from services.encoder.errors import (
    InvalidSource,
    OutputMismatch,
    SourceUnavailable,
    TimeLimitExceeded,
)
from services.encoder.output_facts import OutputFacts, check_output
from videoexport.v1 import export_pb2 as pb

__all__ = ["OutputFacts", "check_output", "probe", "start_fork_server", "verify_output"]

_MAX_ANSWER = 1 << 20


async def probe(
    url: str, *, size_bytes: int, etag: str = "", timeout: float = 60.0
) -> pb.SourceInfo:
    """Return what a source is.

    Args:
        url: the object on loopback HTTP, with ranges.
        timeout: seconds of wall and of CPU time.

    Raises:
        InvalidSource: it is not a video that can be exported; the message says why.
        SourceUnavailable: it could not be read.
        TimeLimitExceeded: examining it took too long.
    """
    if size_bytes == 0:
        raise InvalidSource("the file is empty")
    answer = await _ask(answer_about_source, (url, size_bytes, etag), timeout)
    if answer is None:
        raise InvalidSource("the video is damaged and cannot be read")
    kind, content = answer[:1], answer[1:]
    if kind == OK:
        return pb.SourceInfo.FromString(content)
    if kind == UNAVAILABLE:
        raise SourceUnavailable(content.decode())
    raise InvalidSource(content.decode())


async def verify_output(path: Path, *, timeout: float = 60.0) -> OutputFacts:
    """Return what is in a finished mp4.

    Raises:
        OutputMismatch: it is not an mp4 with video.
        TimeLimitExceeded: counting took too long.
    """
    answer = await _ask(answer_about_output, (str(path),), timeout)
    if answer is None or answer[:1] == INVALID:
        reason = answer[1:].decode() if answer else "the file cannot be read"
        raise OutputMismatch(f"the output could not be verified: {reason}")
    return OutputFacts.from_json(answer[1:])


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


async def start_fork_server() -> None:
    """Start the fork server ahead of the first probe, which would wait 0.3 s for it."""
    await asyncio.to_thread(_run_nothing)


def _run_nothing() -> None:
    process = _context().Process(target=bool)
    process.start()
    process.join()
    process.close()


async def _ask(
    target: Callable[..., None], arguments: tuple[Any, ...], timeout: float
) -> bytes | None:
    """Run `target` in a child and return its answer; None when it died without one."""
    receiver, sender = _context().Pipe(duplex=False)
    limits = (max(1, round(timeout)),)
    process = _context().Process(target=target, args=(sender, *limits, *arguments), daemon=True)
    child = _Child(process, receiver, sender)
    answer = asyncio.ensure_future(asyncio.to_thread(child.answer))
    try:
        async with asyncio.timeout(timeout):
            return await asyncio.shield(answer)
    except TimeoutError:
        raise TimeLimitExceeded(f"reading the video was not done after {timeout:g} s") from None
    finally:
        child.kill()
        await asyncio.shield(answer)


class _Child:
    """One child, waited for in a thread and killed from outside of it."""

    def __init__(self, process: BaseProcess, receiver: Connection, sender: Connection) -> None:
        self._process = process
        self._receiver = receiver
        self._sender = sender
        self._unwanted = threading.Event()

    def answer(self) -> bytes | None:
        """Start the child, wait for its answer or its death, and reap it."""
        self._process.start()
        try:
            self._sender.close()
            if self._unwanted.is_set():
                self._process.kill()
            with suppress(EOFError, OSError):
                return self._receiver.recv_bytes(_MAX_ANSWER)
            return None
        finally:
            self._receiver.close()
            self._process.join()
            self._process.close()

    def kill(self) -> None:
        """End the child now, or as soon as it has started; its waiting thread then returns."""
        self._unwanted.set()
        with suppress(ValueError, AttributeError):  # reaped already, or not yet started
            self._process.kill()
