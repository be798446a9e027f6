"""Ends the processes of a cluster whose supervisor is gone.

The supervisor records its children in a file. When it dies without stopping them (SIGKILL),
the reaper ends them at once; should that be gone too, the next start on the same data
directory does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from services.local.files import read_json, write_json

# Seconds that left-over processes get to end by themselves.
GRACE_S = 5
# Start times are computed from the clock and the boot time: allow for a clock that was set.
START_TIME_TOLERANCE_S = 2.0
# Words of a command line that are kept; enough to tell a server from anything else.
COMMAND_WORDS = 3


@dataclass(frozen=True)
class Identity:
    """What tells a process from a later one that was given the same id."""

    pid: int
    started: float
    command: list[str]

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return the identity of a running process; None when there is none."""
        try:
            process = psutil.Process(pid)
            return cls(pid, process.create_time(), process.cmdline()[:COMMAND_WORDS])
        except psutil.Error:
            return None

    def process(self) -> psutil.Process | None:
        """Return the process if it still runs and is the same one."""
        now = Identity.of(self.pid)
        if now is None or now.command != self.command:
            return None
        if abs(now.started - self.started) > START_TIME_TOLERANCE_S:
            return None
        return psutil.Process(self.pid)


def record(path: Path, children: Mapping[str, int]) -> None:
    """Write down which processes (`{name: pid}`) belong to this supervisor."""
    identities = {name: Identity.of(pid) for name, pid in children.items()}
    write_json(
        path,
        {
            "supervisor": os.getpid(),
            "children": {name: asdict(found) for name, found in identities.items() if found},
        },
    )


def end_leftovers(path: Path, *, supervisor: int | None = None) -> list[str]:
    """End the recorded processes that still run, and all below them; return their names.

    Args:
        path: the record.
        supervisor: end nothing unless the process with this id wrote the record.
    """
    recorded = read_json(path)
    if supervisor is not None and recorded.get("supervisor") != supervisor:
        return []
    children: dict[str, dict[str, Any]] = recorded.get("children", {})
    alive = {name: Identity(**entry).process() for name, entry in children.items()}
    roots = {name: process for name, process in alive.items() if process is not None}
    processes = [each for root in roots.values() for each in _with_descendants(root)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(processes, timeout=GRACE_S)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=GRACE_S)
    return list(roots)


def _with_descendants(root: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [root, *root.children(recursive=True)]
    return []
