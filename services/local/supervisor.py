"""Keeps the parts of one cluster running, and leaves none of them behind."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from services.local import leftovers
from services.local.files import make_private_folder
from services.local.part import Part, bare_environment
from services.local.process import (
    PROBE_INTERVAL_S,
    ChildProcess,
    NotReady,
    PartFailed,
    describe_exit,
)

RESTART_DELAY_S = 1.0
# A part that keeps dying is restarted this often within the window, then has to wait.
RESTARTS_PER_WINDOW = 5
RESTART_WINDOW_S = 60.0

Notify = Callable[[str], None]


class DirectoryInUse(Exception):
    """Another cluster runs on the data directory; the text says which and what to do."""


@dataclass
class _Kept:
    """A part that is to run. `watch` is None until it was ready once, and once it is stopped."""

    part: Part
    child: ChildProcess | None = None
    watch: asyncio.Task[None] | None = None
    restarts: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS_PER_WINDOW))


class Supervisor:
    """Starts parts, restarts those that die, stops them.

    Not built on a TaskGroup: a test fixture opens and closes it in different tasks. Every
    task it makes belongs to one part and ends in `stop`.
    """

    def __init__(
        self, directory: Path, *, notify: Notify, on_change: Callable[[], None] = lambda: None
    ) -> None:
        """Nothing is touched yet.

        Args:
            directory: the data directory.
            notify: told when a part dies or runs again.
            on_change: called when process ids have changed.
        """
        self._directory = directory
        self._record = directory / "pids.json"
        self._notify = notify
        self._on_change = on_change
        self._kept: dict[str, _Kept] = {}
        self._lock: IO[str] | None = None
        self._reaper: asyncio.subprocess.Process | None = None

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the running parts, by name."""
        return {
            name: kept.child.pid
            for name, kept in self._kept.items()
            if kept.child is not None and kept.child.running
        }

    async def open(self) -> None:
        """Take the data directory, and end what a killed supervisor left there.

        Raises:
            DirectoryInUse: it is taken.
        """
        self._lock = take_directory(self._directory)
        ended = await asyncio.to_thread(leftovers.end_leftovers, self._record)
        if ended:
            self._notify(f"ended what the last run left behind: {', '.join(ended)}")
        leftovers.record(self._record, {})
        self._reaper = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.local.reaper", str(self._record), str(os.getpid())),
            env=dict(bare_environment()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    async def start(self, part: Part) -> None:
        """Start a part, wait until it serves, and keep it running from then on.

        Raises:
            PartFailed: it did not come up; it is not tried again.
        """
        kept = self._kept.setdefault(part.name, _Kept(part))
        if kept.watch is not None:
            raise ValueError(f"{part.name} runs already")
        kept.part = part
        await self._launch(kept)
        kept.watch = asyncio.create_task(self._watch(kept), name=f"watch {part.name}")

    async def start_again(self, name: str) -> None:
        """Start a part that was stopped. Raises KeyError for a name that never ran."""
        await self.start(self._kept[name].part)

    async def all_serving(self) -> None:
        """Start every part that was stopped, and wait until all serve; without a limit of time."""
        for kept in self._kept.values():
            if kept.watch is None:
                await self.start(kept.part)
        for kept in self._kept.values():
            while not await _serves(kept):
                await asyncio.sleep(PROBE_INTERVAL_S)

    async def stop(self, name: str) -> None:
        """Stop a part for good, by its stop signal first. Harmless when it does not run."""
        kept = self._kept[name]
        if kept.watch is not None:
            kept.watch.cancel()
            await asyncio.gather(kept.watch, return_exceptions=True)
            kept.watch = None
        if kept.child is not None:
            await kept.child.stop()
        kept.part.tidy()
        self._changed()

    def kill(self, name: str) -> None:
        """Send SIGKILL to a part and everything below it; it is restarted like any that dies."""
        child = self._kept[name].child
        if child is not None:
            child.kill()

    async def stop_together(self, names: Iterable[str]) -> None:
        """Stop several parts at the same time; names that never ran are passed over."""
        async with asyncio.TaskGroup() as stopping:
            for name in names:
                if name in self._kept:
                    stopping.create_task(self.stop(name))

    async def close(self) -> None:
        """Stop what still runs, and give the data directory back."""
        try:
            await self.stop_together(self._kept)
        finally:
            if self._reaper is not None and self._reaper.stdin is not None:
                self._reaper.stdin.close()
                await self._reaper.wait()
            if self._lock is not None:
                self._lock.close()

    async def _launch(self, kept: _Kept) -> None:
        """Start the process of a part and wait until it serves; leave nothing when it does not."""
        try:
            await kept.part.prepare()
        except OSError as error:
            raise PartFailed(f"{kept.part.name} cannot be prepared: {error}") from error
        kept.child = await ChildProcess.start(kept.part.command())
        self._changed()
        try:
            await kept.child.wait_ready(kept.part.probe, kept.part.ready_timeout)
        except BaseException:
            kept.child.kill()
            await kept.child.wait()
            raise

    async def _watch(self, kept: _Kept) -> None:
        """Restart the part whenever it ends."""
        while kept.child is not None:
            status = await kept.child.wait()
            self._changed()
            await self._restart(kept, f"{kept.part.name} {describe_exit(status)}")

    async def _restart(self, kept: _Kept, problem: str) -> None:
        while True:
            delay = _restart_delay(kept.restarts, time.monotonic())
            self._notify(f"{problem}\nstarting {kept.part.name} again in {delay:.0f} s")
            await asyncio.sleep(delay)
            kept.restarts.append(time.monotonic())
            try:
                await self._launch(kept)
            except PartFailed as error:
                problem = str(error)
            else:
                self._notify(f"{kept.part.name} runs again")
                return

    def _changed(self) -> None:
        try:
            leftovers.record(self._record, self.pids)
            self._on_change()
        except OSError as error:
            # A full disk is no reason to look after the parts no longer.
            self._notify(f"cannot write down which processes run: {error}")


async def _serves(kept: _Kept) -> bool:
    if kept.child is None or not kept.child.running:
        return False
    try:
        await kept.part.probe()
    except NotReady:
        return False
    return True


def _restart_delay(restarts: deque[float], now: float) -> float:
    """Return the seconds to wait before the next restart, given the times of the last ones."""
    if len(restarts) < RESTARTS_PER_WINDOW:
        return RESTART_DELAY_S
    return max(RESTART_DELAY_S, restarts[0] + RESTART_WINDOW_S - now)


def take_directory(directory: Path) -> IO[str]:
    """Return an open file that holds the directory for this process until it is closed.

    Raises:
        DirectoryInUse: another process holds it.
    """
    make_private_folder(directory)
    file = (directory / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise DirectoryInUse(
            f"a cluster runs on {directory} already (process {holder}); "
            "stop that one or choose another data directory"
        ) from None
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    return file
