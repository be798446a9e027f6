"""A process that reads media with PyAV in children of its own, one for each file.

Run as `python -m services.encoder.inspection.fork_server FD`. Demuxers and decoders read
what strangers made: they run where a crash ends nothing else, under limits. This
process was executed anew, so unlike the encoder's it has no gRPC and no threads
and can be forked; and PyAV is loaded, so that a child starts in milliseconds.
multiprocessing's fork server is not used, for its children import the main module.

Requests come on the socket FD, as services/encoder/inspection/protocol.py says.
When its standard input is closed, everything ends.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import av.logging

from services.encoder.errors import (
    InvalidSource,
    InvalidSubtitles,
    NotCopyable,
    OutputMismatch,
    ScratchFull,
    SourceUnavailable,
)
from services.encoder.inspection.copy_pictures import copy_pictures
from services.encoder.inspection.cues import inspect_cues
from services.encoder.inspection.damage import Wanted, inspect_damage
from services.encoder.inspection.joins import inspect_joins
from services.encoder.inspection.output import inspect_output
from services.encoder.inspection.protocol import (
    BEGUN,
    DEFECT,
    INVALID,
    MAX_REQUEST,
    NO_ROOM,
    OK,
    UNAVAILABLE,
)
from services.encoder.inspection.source import inspect_source
from services.encoder.inspection.survey_parts import survey_parts

# Far above what the largest picture takes.
MEMORY_BYTES = 4 << 30


class ForkServer:
    """The loop that forks, kills and reaps."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        # Child -> the descriptor whose closing asks for its end.
        self._lifelines: dict[int, int] = {}

    def run(self) -> None:
        """Serve until standard input is closed, as it is when the encoder dies."""
        wakeup, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wakeup, selectors.EVENT_READ)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    for child in list(self._lifelines):
                        self._end(child)
                    return
                if key.fileobj == wakeup:
                    os.read(wakeup, 4096)
                    self._reap()
                elif key.fileobj is self._control:
                    self.accept()
                elif key.data in self._lifelines:
                    self._end(key.data)

    def accept(self) -> None:
        """Fork for one request."""
        message, (answer, lifeline), _, _ = socket.recv_fds(self._control, MAX_REQUEST, 2)
        try:
            child = os.fork()
        except OSError:  # as many processes as there may be
            os.write(answer, BEGUN + DEFECT + traceback.format_exc().encode())
            os.close(answer)
            os.close(lifeline)
            return
        if child == 0:
            # Whatever goes wrong, a child never returns into the loop that is its parent's.
            try:
                os.write(answer, BEGUN)
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._control.close()
                os.write(answer, _answer(json.loads(message)))
            except Exception:  # whatever it is must be told
                os.write(answer, DEFECT + traceback.format_exc().encode())
            finally:
                os._exit(0)
        os.close(answer)
        self._lifelines[child] = lifeline
        self._selector.register(lifeline, selectors.EVENT_READ, child)

    def _end(self, child: int) -> None:
        # Not reaped yet, so the number is still the child's.
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        self._selector.unregister(self._lifelines[child])
        os.close(self._lifelines.pop(child))

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (child := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if child in self._lifelines:
                    self._selector.unregister(self._lifelines[child])
                    os.close(self._lifelines.pop(child))


def _answer(request: dict[str, Any]) -> bytes:
    """Do what is asked, within limits; every way of failing that has a sentence gives it."""
    _confine(request["cpu_seconds"], request.get("file_bytes", 0))
    try:
        return OK + _done(request)
    except (InvalidSource, InvalidSubtitles, OutputMismatch, NotCopyable) as error:
        return INVALID + error.message.encode()
    except SourceUnavailable as error:
        return UNAVAILABLE + error.message.encode()
    except ScratchFull as error:
        return NO_ROOM + error.message.encode()
    except MemoryError:
        return INVALID + b"the video needs more memory than examining it may take"


def _done(request: dict[str, Any]) -> bytes:
    return next((do for name, do in _KINDS.items() if name in request), _inspect_source)(request)


def _inspect_output(request: dict[str, Any]) -> bytes:
    facts = inspect_output(Path(request["path"]), decode_keyframes=request["decode_keyframes"])
    return facts.to_json()


def _inspect_cues(request: dict[str, Any]) -> bytes:
    place = (request["url"], request["size_bytes"], request["container"])
    return inspect_cues(*place, request["stream"], request["spans"])


def _inspect_damage(request: dict[str, Any]) -> bytes:
    wanted = Wanted.from_request(request["wanted"])
    return inspect_damage(request["url"], request["size_bytes"], wanted)


def _inspect_source(request: dict[str, Any]) -> bytes:
    info = inspect_source(request["url"], request["size_bytes"], request["etag"])
    return info.SerializeToString()


# What is asked, by what the request says; a source is examined where it says none of these.
_KINDS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "copy": lambda request: copy_pictures(request["copy"]),
    "survey": lambda request: survey_parts(request["survey"]),
    "joins": lambda request: inspect_joins(Path(request["path"]), request["joins"]),
    "path": _inspect_output,
    "stream": _inspect_cues,
    "wanted": _inspect_damage,
}


def _confine(cpu_seconds: int, file_bytes: int) -> None:
    """Limit what this process may take. What a platform does not know is left out.

    Args:
        file_bytes: length of a file that it may write.
    """
    limits = {
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: file_bytes,
    }
    if sys.platform == "linux":  # macOS counts its shared cache, and refuses
        limits[resource.RLIMIT_AS] = MEMORY_BYTES
    for kind, limit in limits.items():
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    av.logging.set_level(av.logging.PANIC)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the encoder decides when to end
    gc.freeze()  # children then share these pages
    ForkServer(socket.socket(fileno=int(sys.argv[1]))).run()
