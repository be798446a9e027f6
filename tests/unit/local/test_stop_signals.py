"""Signals that stop the demonstration, and what is reported of them."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local import demo

ARGUMENTS = Namespace(source=None, output=Path("demo.mp4"), data=Path("data"), edit=False)
GONE = OSError(errno.EIO, "Input/output error")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals that nobody heeds do not end the tests, and mean afterwards what they did before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, lambda *_: None) for each in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def stopped_by(number: int, monkeypatch: pytest.MonkeyPatch, trouble: OSError | None = None) -> int:
    """Return the exit status of a demonstration that a signal stops, twice."""

    async def demonstrate(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(1)
        finally:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.1)
            demo.to_stderr("tidied up")
            if trouble is not None:
                raise trouble

    monkeypatch.setattr(demo, "demonstrate", demonstrate)
    return asyncio.run(demo.run(ARGUMENTS))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_status_is_that_of_the_signal(
    number: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stopped_by(number, monkeypatch) == status
    assert capsys.readouterr().err == "tidied up\ninterrupted; everything is stopped\n"


class Gone:
    """A terminal that was closed."""

    def write(self, _: str) -> None:
        raise GONE


def test_terminal_that_has_gone_does_not_change_the_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    assert stopped_by(signal.SIGHUP, monkeypatch) == 129
    assert stopped_by(signal.SIGHUP, monkeypatch, GONE) == 129


def test_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    # As what nohup starts.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert stopped_by(signal.SIGHUP, monkeypatch) == 0
