"""Numbers, times and tables as a person reads them."""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

# Wide enough for every column: whoever pipes a table wants lines, not wrapping.
_UNWRAPPED = 500

# Categories of characters: control, format and half of a surrogate pair.
_STEERING = ("Cc", "Cf", "Cs")

Pair = tuple[str, str]


def plain(text: str) -> str:
    """Return `text` without what could steer a terminal or not be written to one.

    It may come from other people, or be a file name that is no text.
    """
    return "".join(
        "\ufffd" if unicodedata.category(char) in _STEERING and char not in "\n\t" else char
        for char in text
    )


def size(count: int) -> str:
    """Return a number of bytes for a person, such as `12.3 MB`."""
    return decimal(count)


def clock(duration: Duration | timedelta) -> str:
    """Return a place or length in a video as `H:MM:SS.mmm`, milliseconds rounded down."""
    if isinstance(duration, Duration):
        milliseconds = duration.seconds * 1000 + duration.nanos // 1_000_000
    else:
        milliseconds = duration // timedelta(milliseconds=1)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"


def moment(time: Timestamp) -> str:
    """Return an instant in the reader's time zone."""
    return time.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def elapsed(start: Timestamp, end: Timestamp) -> str:
    """Return the time between two instants in seconds."""
    return f"{(end.ToDatetime() - start.ToDatetime()).total_seconds():.1f} s"


def waiting_time(duration: timedelta) -> str:
    """Return a time to wait, rounded up: `12 seconds`, `3 minutes` or `2 hours`."""
    seconds = max(1, math.ceil(duration.total_seconds()))
    for unit, length in (("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds > length or length == 1:
            count = math.ceil(seconds / length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    raise AssertionError("a second is the last unit")


def details(pairs: Iterable[Pair]) -> str:
    """Return one aligned line a pair."""
    rows = [(label, plain(value)) for label, value in pairs]
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return aligned columns under their names, one line a row."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style=None)
    for column in columns:
        grid.add_column(column, no_wrap=True)
    for row in rows:
        grid.add_row(*map(plain, row))
    target = io.StringIO()
    Console(file=target, width=_UNWRAPPED, markup=False, highlight=False, emoji=False).print(grid)
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines())
