"""What both directions share: when to give up, how progress is told, which failures pass."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

# Receives the number of bytes transferred so far, on the event loop; it never goes back.
OnProgress = Callable[[int], None]

# What is in memory of a part or a download at a time.
BLOCK = 256 * 1024

# `no_stall` ends what hangs or trickles; the session's own limit of 5 minutes would end large
# transfers.
NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=10)


class TransferError(Exception):
    """A transfer that failed for good; the text is a sentence for a person."""


class LocalFileError(TransferError):
    """The file on this machine cannot be read or written; the text names it."""


class Broken(Exception):
    """A try that failed in a way that need not come again; the text says how."""


# What ends a try and leaves hope for the next.
PASSING = (aiohttp.ClientError, TimeoutError, Broken)


@dataclass(frozen=True, slots=True)
class Patience:
    """When a transfer gives up. Times are in seconds.

    Attributes:
        tries: tries of a part; for a download, tries in a row that got on slower than
            `least_rate`.
        first_delay: wait before the second try; doubled each time.
        longest_delay: bound of that wait.
        stall: longest time in which less moves than `least_rate` asks for.
        least_rate: bytes a second, of each part and of a download. Below it is no line that
            videos are sent over, but a connection that is kept open by a byte now and then.
    """

    tries: int = 6
    first_delay: float = 0.25
    longest_delay: float = 8.0
    stall: float = 60.0
    least_rate: float = 4096.0

    def gets_on(self, count: int, seconds: float) -> bool:
        """Return whether so many bytes in so many seconds are progress."""
        return count > 0 and count >= self.least_rate * seconds

    async def wait(self, tries: int) -> None:
        """Wait after so many failed tries; never equally long, so that not all return at once."""
        longest: float = min(self.longest_delay, self.first_delay * 2 ** (tries - 1))
        await asyncio.sleep(longest * random.uniform(0.5, 1))  # noqa: S311 — no secret


DEFAULT_PATIENCE = Patience()


class Progress:
    """Tells how far a transfer is; bytes that are sent again are told once."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._done = 0
        self._told = 0

    def moved(self, count: int) -> None:
        """Count bytes; negative ones are lost and will move again."""
        self._done += count
        if self._done > self._told:
            self._told = self._done
            self._on_progress(self._told)


@asynccontextmanager
async def no_stall(patience: Patience) -> AsyncIterator[Callable[[int], None]]:
    """Raise TimeoutError when too few bytes were told to the yielded function for too long."""
    loop = asyncio.get_running_loop()
    seconds = patience.stall
    least = seconds * patience.least_rate
    async with asyncio.timeout(seconds) as deadline:
        within = True
        owed = least

        def moved(count: int) -> None:
            nonlocal owed
            owed -= count
            # aiohttp's writer may run on for a moment after the block has ended.
            if owed <= 0 and within and not deadline.expired():
                owed = least
                deadline.reschedule(loop.time() + seconds)

        try:
            yield moved
        finally:
            within = False


def describe(error: Exception) -> str:
    """Return one of PASSING in words; aiohttp's own text would show the URL."""
    if isinstance(error, Broken):
        return str(error)
    if isinstance(error, TimeoutError):
        return "too few bytes moved for too long"
    return "the connection broke or could not be made"
