"""The processes that simulated encoders live in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.scale.encoders import READY
from services.local.cluster import LocalCluster

# Encoders of one process: more of them than one core can serve would wait for each other.
PER_PROCESS = 50
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20


@dataclass
class Fleet:
    """Encoders that run.

    Attributes:
        pids: of their processes.
        spans: what their slots did, complete once they are stopped.
    """

    pids: list[int]
    spans: list[Path]


@asynccontextmanager
async def fleet(
    cluster: LocalCluster, folder: Path, encoders: int, *, storage_aside: bool
) -> AsyncIterator[Fleet]:
    """Start encoders of one slot each; yield once all of them run, stop them in the end.

    Args:
        folder: for what they write down, and their scratch.
    """
    running = Fleet([], [])
    processes = []
    try:
        for number, first in enumerate(range(0, encoders, PER_PROCESS), 1):
            spans = folder / f"spans-{number}.jsonl"
            arguments = [
                *("--name", f"sim-{number}"),
                *("--encoders", str(min(PER_PROCESS, encoders - first))),
                *("--nats", cluster.infrastructure.nats.url),
                *("--storage", cluster.storage.address),
                *("--scratch", str(folder / "scratch")),
                *("--spans", str(spans)),
                *(["--storage-aside"] if storage_aside else []),
            ]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.scale.encoders", *arguments),
                stdout=asyncio.subprocess.PIPE,
            )
            processes.append(process)
            running.pids.append(process.pid)
            running.spans.append(spans)
        async with asyncio.timeout(START_TIMEOUT_S):
            for process in processes:
                await _ready(process)
        yield running
    finally:
        for process in processes:
            if process.returncode is None:
                process.terminate()
        for process in processes:
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _ready(process: asyncio.subprocess.Process) -> None:
    if process.stdout is None:
        raise RuntimeError("the simulated encoders have no pipe")
    line = await process.stdout.readline()
    if line.decode().strip() != READY:
        raise RuntimeError("the simulated encoders did not start")
