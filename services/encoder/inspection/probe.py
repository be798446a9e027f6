"""Reads media in short-lived child processes: what a source is, what an output became."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from services.encoder.child_environment import child_environment
from services.encoder.commands.cues import Cue, Cues, milliseconds_to_read
from services.encoder.deadline import Deadline
from services.encoder.errors import (
    InvalidSource,
    InvalidSubtitles,
    OutputMismatch,
    SourceUnavailable,
)
from services.encoder.inspection.output_facts import OutputFacts, check_output
from services.encoder.inspection.protocol import (
    BEGUN,
    DEFECT,
    MAX_ANSWER,
    MAX_CUES,
    MAX_REQUEST,
    OK,
    SPANS_A_REQUEST,
    UNAVAILABLE,
)
from videoexport.v1 import export_pb2 as pb

__all__ = [
    "OutputFacts",
    "check_output",
    "look_for_damage",
    "probe",
    "start_fork_server",
    "verify_output",
]


# What takes too long where a source or an output is looked at.
EXAMINING = "examining the video"


class ReadingFailed(Exception):
    """Reading media failed by a defect of the reader; the message has its traceback."""


class AnswerTooLong(ReadingFailed):
    """A child has more to say than is taken."""


async def probe(
    url: str, *, size_bytes: int, etag: str = "", timeout: float = 60.0
) -> pb.SourceInfo:
    """Return what a source is.

    Args:
        url: the object on loopback HTTP, with ranges.
        timeout: seconds of wall and of CPU time that it may take.

    Raises:
        InvalidSource: it is not a video that can be exported; the message says why.
        SourceUnavailable: it could not be read.
        TimeLimitExceeded: examining it took too long.
        ReadingFailed: that was no fault of the source.
    """
    if size_bytes == 0:
        raise InvalidSource("the file is empty")
    deadline = Deadline.within(timeout, EXAMINING)
    try:
        request = {"url": url, "size_bytes": size_bytes, "etag": etag}
        answer = await ask(request, deadline, MAX_ANSWER)
    except AnswerTooLong as error:
        # What a source is takes as long as that only where it says more than any honest one.
        raise InvalidSource("the video says more of itself than can be kept") from error
    kind, content = answer[:1], answer[1:]
    if kind == OK:
        return pb.SourceInfo.FromString(content)
    if kind == UNAVAILABLE:
        raise SourceUnavailable(content.decode())
    # Without an answer, the child has died of it.
    raise InvalidSource(content.decode() or "the video is damaged and cannot be read")


async def verify_output(
    path: Path, *, deadline: Deadline | None = None, decode_keyframes: bool = False
) -> OutputFacts:
    """Return what is in a finished file.

    Args:
        deadline: a minute from now if none is given.
        decode_keyframes: whether to decode every keyframe.

    Raises:
        OutputMismatch: it cannot be read, or a keyframe cannot be decoded.
        TimeLimitExceeded: counting took too long.
        ReadingFailed: that was no fault of the file.
    """
    request = {"path": str(path), "decode_keyframes": decode_keyframes}
    answer = await ask(request, deadline or Deadline.within(60, EXAMINING))
    if answer[:1] != OK:
        reason = answer[1:].decode() or "the file cannot be read"
        raise OutputMismatch(f"the output could not be verified: {reason}")
    return OutputFacts.from_json(answer[1:])


async def read_cues(
    url: str,
    info: pb.SourceInfo,
    stream: int,
    spans: Sequence[tuple[Fraction, Fraction]],
    deadline: Deadline,
) -> Cues:
    """Return a source's cues that are shown in spans of its container's clock, in seconds.

    Raises:
        InvalidSubtitles: they cannot be read; the message says why.
        SourceUnavailable: the source could not be read.
        TimeLimitExceeded: reading them took too long.
        ReadingFailed: that was no fault of the source.
    """
    wanted = milliseconds_to_read(spans)
    found = Cues()
    for first in range(0, len(wanted), SPANS_A_REQUEST):
        batch = wanted[first : first + SPANS_A_REQUEST]
        request = {"url": url, "size_bytes": info.size_bytes, "container": info.container}
        asked = request | {"stream": stream, "spans": batch}
        try:
            answer = await ask(asked, deadline, MAX_CUES)
        except AnswerTooLong as error:
            raise InvalidSubtitles("there are more subtitles than can be kept") from error
        kind, content = answer[:1], answer[1:]
        if kind == UNAVAILABLE:
            raise SourceUnavailable(content.decode())
        if kind != OK:
            raise InvalidSubtitles(content.decode() or "the subtitles are damaged")
        told = json.loads(content)
        cues = [
            Cue(Fraction(start), Fraction(end), text, layer, style)
            for start, end, layer, style, text in told["cues"]
        ]
        found = Cues(tuple(dict.fromkeys((*found.cues, *cues))), told["looks"])
    return found


async def look_for_damage(
    url: str, *, size_bytes: int, wanted: Mapping[str, object], deadline: Deadline
) -> bytes:
    """Return where a source cannot be decoded, as `inspect_damage` says it.

    Args:
        url: as for `probe`.
        wanted: what is looked through, as JSON values.

    Raises:
        InvalidSource: it cannot be read at all.
        SourceUnavailable, TimeLimitExceeded, ReadingFailed: as for `probe`.
    """
    answer = await ask({"url": url, "size_bytes": size_bytes, "wanted": wanted}, deadline)
    if answer[:1] == OK:
        return answer[1:]
    if answer[:1] == UNAVAILABLE:
        raise SourceUnavailable(answer[1:].decode())
    raise InvalidSource(answer[1:].decode() or "the video is damaged and cannot be read")


async def start_fork_server() -> None:
    """Start the fork server ahead of the first probe, which would wait 0.3 s for it."""
    await asyncio.to_thread(_server.start)


async def ask(request: dict[str, object], deadline: Deadline, most: int = MAX_ANSWER) -> bytes:
    """Return a child's answer, of at most so many bytes; empty when it died without one.

    Raises:
        TimeLimitExceeded: there was none in time.
        AnswerTooLong: it has more bytes.
        ReadingFailed: there was no child, or it met an error of its own.
    """
    left = deadline.left
    if not left:
        raise deadline.exceeded()
    message = json.dumps(request | {"cpu_seconds": max(1, round(left))}).encode()
    if len(message) > MAX_REQUEST:
        raise ValueError(f"a request of {len(message)} bytes is too long")
    answer, told = os.pipe()
    lifeline, held = os.pipe()
    sending = asyncio.ensure_future(asyncio.to_thread(_send, message, told, lifeline))
    try:
        # The thread goes on when the caller is cancelled. It closes what it sends by itself:
        # closed here, the numbers could be another pipe's by the time that it sends them.
        async with asyncio.timeout(left):
            await asyncio.shield(sending)
    except BaseException as error:
        os.close(answer)
        os.close(held)
        sending.add_done_callback(_forget)
        if isinstance(error, TimeoutError):
            raise ReadingFailed("the fork server takes no requests") from error
        raise
    try:
        async with asyncio.timeout(deadline.left):
            told_back = await _read_to_end(answer, most)
    except TimeoutError:
        raise deadline.exceeded() from None
    finally:
        os.close(held)  # ends the child where it still runs
    begun, result = told_back[:1], told_back[1:]
    if begun != BEGUN:
        raise ReadingFailed("the fork server ended before it took up the request")
    if result[:1] == DEFECT:
        raise ReadingFailed(f"a child of the fork server failed:\n{result[1:].decode()}")
    return result


def _send(message: bytes, *descriptors: int) -> None:
    try:
        _server.send(message, list(descriptors))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _forget(sending: asyncio.Future[None]) -> None:
    """Take note of an error that nobody waits for any more, which asyncio would log."""
    if not sending.cancelled():
        sending.exception()


async def _read_to_end(descriptor: int, most: int) -> bytes:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        answer = b""
        while chunk := await reader.read(MAX_ANSWER):
            answer += chunk
            if len(answer) > most:
                raise AnswerTooLong(f"a child's answer has more than {most} bytes")
        return answer
    finally:
        transport.close()


class _ForkServer:
    """The fork server's process: started when needed, and again should it be gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the server unless it runs."""
        with self._lock:
            self._running()

    def send(self, message: bytes, descriptors: list[int]) -> None:
        """Send a request with its descriptors."""
        with self._lock:
            try:
                socket.send_fds(self._running(), [message], descriptors)
            except ConnectionError:
                # It is dying: its end of the socket goes before it does.
                self._close()
                socket.send_fds(self._running(), [message], descriptors)

    def stop(self) -> None:
        """End the server and with it its children."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.communicate()  # closes its input, and reaps it
        self._control = self._process = None

    def _running(self) -> socket.socket:
        if self._control is not None and self._process is not None:
            if self._process.poll() is None:
                return self._control
            self._close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        environment = child_environment("PYTHON")
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "services.encoder.inspection.fork_server",
                    str(theirs.fileno()),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,
                start_new_session=True,
                # macOS would refuse to fork a process that has loaded its frameworks.
                env=environment | {"OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES"},
            )
        self._control = ours
        return ours


_server = _ForkServer()
atexit.register(_server.stop)
