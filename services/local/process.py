"""One child process with one owner: starts it, waits until it is ready, stops it, reaps it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

LOG_TAIL_LINES = 15
# A log longer than this is set aside (one older copy is kept) when its process starts.
LOG_LIMIT_BYTES = 16 * 2**20
PROBE_INTERVAL_S = 0.03


class PartFailed(Exception):
    """A part of the cluster does not run; the text names it, says why and shows its log."""


class NotReady(Exception):
    """A probe's answer as long as the process still starts; the text says what is missing."""


# Returns when the process serves; raises NotReady while it does not yet, PartFailed when it
# never will.
Probe = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Command:
    """What to run and how to end it.

    Secrets belong in `env` or in files, never in `argv`: any user of the machine can read that.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    log: Path
    cwd: Path | None = None
    # System user to run as; only root can name one.
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    # Seconds from the stop signal to SIGKILL.
    stop_grace: float = 10


class ChildProcess:
    """A running child. `start` makes one; `stop` or `kill` followed by `wait` ends it."""

    def __init__(self, command: Command, process: asyncio.subprocess.Process, log_start: int):
        self.command = command
        self._process = process
        self._log_start = log_start

    @classmethod
    async def start(cls, command: Command) -> ChildProcess:
        """Start the command in a session of its own, so that Ctrl-C reaches only the owner.

        Raises:
            PartFailed: it cannot be started at all.
        """
        try:
            with _open_log(command.log) as log:
                # Before the child shares the file and moves its position.
                log_start = log.tell()
                process = await asyncio.create_subprocess_exec(
                    *command.argv,
                    env=dict(command.env),
                    cwd=command.cwd,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    **_as_user(command.user),
                )
                return cls(command, process, log_start)
        except (OSError, KeyError) as error:
            raise PartFailed(f"{command.name} cannot be started: {error}") from error

    @property
    def name(self) -> str:
        """Name of the part, such as `encoder-1`."""
        return self.command.name

    @property
    def pid(self) -> int:
        """Process id; also its process group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not been reaped yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for the end; return the exit status, or minus the signal that ended it."""
        return await self._process.wait()

    async def wait_ready(self, probe: Probe, timeout: float) -> None:
        """Ask `probe` until the process serves.

        Raises:
            PartFailed: it exited, or did not become ready within `timeout` seconds.
        """
        probing = asyncio.create_task(self._probe(probe, timeout))
        ended = asyncio.create_task(self.wait())
        try:
            await asyncio.wait({probing, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not probing.done():
                raise self.failure(f"{describe_exit(ended.result())} before it was ready")
            await probing
        finally:
            for task in (probing, ended):
                task.cancel()
            await asyncio.gather(probing, ended, return_exceptions=True)

    async def _probe(self, probe: Probe, timeout: float) -> None:
        reason = "it did not answer"
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        return await probe()
                    except NotReady as answer:
                        reason = str(answer)
                    await asyncio.sleep(PROBE_INTERVAL_S)
        except TimeoutError:
            raise self.failure(f"was not ready within {timeout:g} s: {reason}") from None

    async def stop(self) -> None:
        """Ask it to end, insist after the grace period, and reap it. Harmless when it has ended."""
        if self.running:
            # Not by asyncio's send_signal: it may reap the process, and the status is lost.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, self.command.stop_signal)
            try:
                async with asyncio.timeout(self.command.stop_grace):
                    await self.wait()
            except TimeoutError:
                self.kill()
        await self.wait()

    def kill(self) -> None:
        """Send SIGKILL to the process and to everything below it; reap it with `wait`."""
        if self.running:
            kill_tree(self.pid)

    def failure(self, what: str) -> PartFailed:
        """Return an error that names the part, says `what`, and shows the end of its log."""
        return PartFailed(f"{self.name} {what}\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Return the last lines that this process logged, indented, with the log's path."""
        with self.command.log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        shown = [f"    {line}" for line in lines[-LOG_TAIL_LINES:]] or ["    (it logged nothing)"]
        return "\n".join([f"  last lines of {self.command.log}:", *shown])


async def run_to_end(command: Command, timeout: float) -> None:
    """Run a command that ends by itself.

    Raises:
        PartFailed: its status is not 0, or it took longer than `timeout` seconds.
    """
    child = await ChildProcess.start(command)
    try:
        async with asyncio.timeout(timeout):
            status = await child.wait()
    except TimeoutError:
        raise child.failure(f"did not end within {timeout:g} s") from None
    finally:
        child.kill()
        await child.wait()
    if status != 0:
        raise child.failure(describe_exit(status))


def describe_exit(status: int) -> str:
    """Return an exit status in words, such as `was ended by SIGKILL`."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def kill_tree(pid: int) -> None:
    """Send SIGKILL to a process group and to all descendants of its leader.

    Descendants may have left the group (a Postgres backend and FFmpeg have sessions of their
    own), so they are looked up before their parent is gone.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        below = psutil.Process(pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        for process in below:
            # psutil compares start times, so a reused process id is not hit.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _open_log(path: Path) -> IO[bytes]:
    """Open a log for appending; set it aside first when it has grown long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")


def _as_user(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
