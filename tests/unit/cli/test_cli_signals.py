"""Ctrl-C, SIGTERM and SIGHUP end the command line plainly, whenever they come."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from videoexport.cli.app import run
from videoexport.cli.group import cli
from videoexport.cli.session import Session, with_session

# Stands for a module that takes long to import.
SLOW_MODULE = """\
import sys, time
sys.stdout.write("importing\\n")
sys.stdout.flush()
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals that nobody heeds do not end the tests, and mean afterwards what they did before."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, lambda *_: None)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Work:
    """A command that a signal ends, and that has something to undo."""

    def __init__(self, number: int, trouble: OSError | None = None) -> None:
        self.undone = False
        self._number = number
        self._trouble = trouble

    async def __call__(self, session: Session) -> None:
        session.after_interrupt = "Interrupted; the work goes on."
        os.kill(os.getpid(), self._number)
        try:
            await asyncio.sleep(2)
        finally:
            # A second signal does not disturb it.
            os.kill(os.getpid(), self._number)
            await asyncio.sleep(0.1)
            self.undone = True
            if self._trouble is not None:
                raise self._trouble


def run_work(work: Work, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run it as a command; return the exit status."""
    monkeypatch.setenv("VIDEOEXPORT_USER", "ann")

    async def function(session: Session) -> None:
        await work(session)

    monkeypatch.setitem(
        cli.commands, "work", click.Command("work", callback=with_session(function))
    )
    return run(["work"])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_ends_a_command_once_its_work_is_undone(
    number: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Work(number)
    assert run_work(work, monkeypatch) == status
    assert work.undone
    assert capsys.readouterr().err == "videoexport: Interrupted; the work goes on.\n"


def test_terminal_that_has_gone_does_not_change_the_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = OSError(errno.EIO, "Input/output error")

    def echo(*_: object, **__: object) -> None:
        raise gone

    monkeypatch.setattr(click, "echo", echo)
    assert run_work(Work(signal.SIGHUP, gone), monkeypatch) == 129


def test_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    # As what nohup starts.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    work = Work(signal.SIGHUP)
    assert run_work(work, monkeypatch) == 0
    assert work.undone


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signal_during_the_imports_is_one_sentence(
    number: int, status: int, tmp_path: Path
) -> None:
    (tmp_path / "click.py").write_text(SLOW_MODULE)
    paths = [str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    process = subprocess.Popen(
        [Path(sysconfig.get_path("scripts")) / "videoexport", "list"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (status, "videoexport: Interrupted.\n")
