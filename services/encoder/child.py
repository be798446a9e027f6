"""The child process that reads media with PyAV, one file each.

Demuxers and decoders read what strangers made. They run where a crash ends
nothing else, under limits, and answer in bytes that are parsed, never unpickled.
"""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from services.encoder.errors import InvalidSource, SourceUnavailable

# PyAV stays out of the process that asks: these are loaded by the fork server,
# and below where they are used.
PRELOADED = ("services.encoder.inspect_source", "services.encoder.inspect_output")

# Far above what the largest picture takes.
MEMORY_BYTES = 4 << 30

OK, INVALID, UNAVAILABLE = b"+", b"!", b"?"


def answer_about_source(
    answer: Connection, cpu_seconds: int, url: str, size: int, etag: str
) -> None:
    """Answer with a SourceInfo, or with the sentence that says why there is none."""
    from services.encoder.inspect_source import inspect_source  # noqa: PLC0415

    _confine(cpu_seconds)
    try:
        message = OK + inspect_source(url, size, etag).SerializeToString()
    except InvalidSource as error:
        message = INVALID + error.message.encode()
    except SourceUnavailable as error:
        message = UNAVAILABLE + error.message.encode()
    except MemoryError:
        message = INVALID + b"the video needs more memory than a probe may take"
    answer.send_bytes(message)


def answer_about_output(answer: Connection, cpu_seconds: int, path: str) -> None:
    """Answer with OutputFacts, or with the sentence that says why there are none."""
    from services.encoder.inspect_output import inspect_output  # noqa: PLC0415

    _confine(cpu_seconds)
    try:
        message = OK + inspect_output(Path(path)).to_json()
    except ValueError as error:
        message = INVALID + str(error).encode()
    answer.send_bytes(message)


def _confine(cpu_seconds: int) -> None:
    """Limit what this process may take. What a platform does not know is left out."""
    import av.logging  # noqa: PLC0415

    av.logging.set_level(av.logging.PANIC)
    limits = {
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
    }
    if sys.platform == "linux":  # macOS counts its shared cache, and refuses
        limits[resource.RLIMIT_AS] = MEMORY_BYTES
    for kind, limit in limits.items():
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit, limit))
