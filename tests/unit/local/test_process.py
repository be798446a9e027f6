"""A child process: start, readiness, stop, and what it says when it fails."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from services.local.process import (
    LOG_LIMIT_BYTES,
    ChildProcess,
    Command,
    NotReady,
    PartFailed,
    describe_exit,
    run_to_end,
)

DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
child = subprocess.Popen(sleep, start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "part.log"


def python(log: Path, code: str, **options: object) -> Command:
    argv = [sys.executable, "-c", code]
    return Command(name="part", argv=argv, env={}, log=log, **options)


def logged(log: Path, text: str):
    async def probe() -> None:
        if text not in await asyncio.to_thread(log.read_text):
            raise NotReady(f"{text} is not in the log")

    return probe


async def test_start_of_a_missing_program_names_the_part(log):
    with pytest.raises(PartFailed, match=r"part cannot be started.*no-such-program"):
        await ChildProcess.start(Command("part", ["/no-such-program"], {}, log))


async def test_readiness_waits_for_the_probe(log):
    child = await ChildProcess.start(
        python(log, "import time; time.sleep(.3); print('up', flush=True); time.sleep(60)")
    )
    began = time.monotonic()
    await child.wait_ready(logged(log, "up"), 10)
    assert time.monotonic() - began > 0.2
    await child.stop()


async def test_early_exit_is_an_error_with_name_status_and_last_lines(log):
    log.parent.mkdir()
    log.write_text("a line of the last run\n")
    child = await ChildProcess.start(
        python(
            log, "print(*map('line {}'.format, range(40)), sep='\\n', flush=True); exit('no disk')"
        )
    )
    with pytest.raises(PartFailed) as failure:
        await child.wait_ready(logged(log, "never"), 10)
    text = str(failure.value)
    assert text.startswith("part exited with status 1 before it was ready\n")
    assert str(log) in text
    assert "no disk" in text
    assert "line 39" in text
    assert "line 3\n" not in text


async def test_failure_shows_nothing_of_earlier_runs(log):
    log.parent.mkdir()
    log.write_text("a line of the last run\n")
    with pytest.raises(PartFailed, match="of this run") as failure:
        await run_to_end(python(log, "print('a line of this run'); exit(1)"), 10)
    assert "last run" not in str(failure.value)


async def test_readiness_that_never_comes_says_what_was_missing(log):
    child = await ChildProcess.start(python(log, "import time; time.sleep(60)"))
    with pytest.raises(PartFailed, match=r"part was not ready within 0\.2 s: up is not in the log"):
        await child.wait_ready(logged(log, "up"), 0.2)
    assert child.running
    child.kill()
    assert await child.wait() == -signal.SIGKILL


async def test_stop_asks_first(log):
    child = await ChildProcess.start(python(log, "import time; time.sleep(60)"))
    await child.stop()
    assert await child.wait() == -signal.SIGTERM
    await child.stop()


async def test_stop_uses_the_signal_of_the_command(log):
    command = python(log, "import time; time.sleep(60)", stop_signal=signal.SIGUSR1)
    child = await ChildProcess.start(command)
    await child.stop()
    assert await child.wait() == -signal.SIGUSR1


async def test_stop_insists_after_the_grace(log):
    child = await ChildProcess.start(python(log, DEAF, stop_grace=0.2))
    await child.wait_ready(logged(log, "deaf"), 10)
    await child.stop()
    assert await child.wait() == -signal.SIGKILL


async def test_kill_reaches_descendants_in_sessions_of_their_own(log):
    child = await ChildProcess.start(python(log, PARENT))
    await child.wait_ready(logged(log, "\n"), 10)
    below = psutil.Process(int(log.read_text()))
    child.kill()
    await child.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, [below], 5)
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


async def test_child_leads_a_session_so_that_ctrl_c_does_not_reach_it(log):
    child = await ChildProcess.start(python(log, "import time; time.sleep(60)"))
    assert os.getsid(child.pid) == child.pid
    await child.stop()


async def test_environment_is_only_what_was_given(log, monkeypatch):
    monkeypatch.setenv("LEAKED", "yes")
    await run_to_end(python(log, "import os; print('LEAKED' in os.environ)"), 10)
    assert log.read_text() == "False\n"


async def test_run_to_end_fails_with_the_status(log):
    with pytest.raises(PartFailed, match="part exited with status 3"):
        await run_to_end(python(log, "raise SystemExit(3)"), 10)


async def test_run_to_end_fails_after_its_time_and_leaves_nothing(log):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(PartFailed, match="part did not end within 1 s"):
        await run_to_end(python(log, code), 1)
    assert not psutil.pid_exists(int(log.read_text()))


async def test_long_log_is_set_aside_at_the_start(log):
    log.parent.mkdir()
    log.write_bytes(b"x" * (LOG_LIMIT_BYTES + 1))
    await run_to_end(python(log, "print('new')"), 10)
    assert log.read_text() == "new\n"
    assert log.with_name("part.log.1").stat().st_size == LOG_LIMIT_BYTES + 1


def test_exit_is_described_in_words():
    assert describe_exit(2) == "exited with status 2"
    assert describe_exit(-signal.SIGKILL) == "was ended by SIGKILL"
