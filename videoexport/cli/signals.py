"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it had begun is undone first."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import asyncio  # takes long, and what is imported here comes before any signal is heeded


class Stopped(BaseException):
    """A signal asks the process to end, outside of an event loop.

    No KeyboardInterrupt, of which click makes an error without the signal's number.

    Attributes:
        number: which one.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def status_of(number: int) -> int:
    """Return what shells report of a program that a signal ended."""
    return 128 + number


def raise_on_signals() -> None:
    """From now on, let the signals raise Stopped."""
    for number in _signals():
        signal.signal(number, _raise)


def call_on_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[int], None]) -> None:
    """Let the signals call `stop` in an event loop, with their number."""
    for number in _signals():
        loop.add_signal_handler(number, stop, number)


def _signals() -> list[signal.Signals]:
    # What nohup starts has SIGHUP ignored, and outlives its terminal.
    both = (signal.SIGTERM, signal.SIGHUP)
    return [each for each in both if signal.getsignal(each) is not signal.SIG_IGN]


def _raise(number: int, _: FrameType | None) -> NoReturn:
    raise Stopped(number)
