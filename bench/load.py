"""Load on a gRPC server: callers in a closed loop, watchers of one export, the echo to compare."""

from __future__ import annotations

import asyncio
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grpc.aio

from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service

START_TIMEOUT_S = 30

Stream: TypeAlias = (
    "grpc.aio.UnaryStreamCall[service.WatchExportRequest, service.WatchExportResponse]"
)
Open = Callable[[], Stream]


@asynccontextmanager
async def echo_server(export: pb.Export, folder: Path) -> AsyncIterator[str]:
    """Run `bench.echo` as a process of its own; yield its address."""
    message = folder / "echo.bin"
    message.write_bytes(export.SerializeToString())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.echo", str(message), stdout=asyncio.subprocess.PIPE
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the echo server has no pipe")
        async with asyncio.timeout(START_TIMEOUT_S):
            port = (await process.stdout.readline()).decode().strip()
        yield f"127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        message.unlink()


@dataclass(frozen=True, slots=True)
class Rate:
    """What callers in a closed loop got.

    Attributes:
        per_second: calls that were answered.
        latencies: of each call in seconds, sorted.
    """

    per_second: float
    latencies: Sequence[float]


async def closed_loop(
    call: Callable[[int], Awaitable[object]], callers: int, seconds: float
) -> Rate:
    """Call without pause from `callers` tasks for some seconds.

    Args:
        call: makes one call; is given the caller's number.
    """
    latencies: list[float] = []
    began = time.perf_counter()

    async def caller(number: int) -> None:
        while (start := time.perf_counter()) < began + seconds:
            await call(number)
            latencies.append(time.perf_counter() - start)

    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(caller(number))
    elapsed = time.perf_counter() - began
    return Rate(len(latencies) / elapsed, sorted(latencies))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the sorted values lie."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Watchers:
    """Streams that note when each of them heard of which change.

    A change is named by `frames_done`, which only grows. A watcher may skip a change:
    hearing of a later one counts.
    """

    def __init__(self) -> None:
        self.messages = 0
        self._values: list[list[int]] = []
        self._times: list[list[float]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._opened = 0

    @asynccontextmanager
    async def watch(self, call: Open, count: int) -> AsyncIterator[Watchers]:
        """Open `count` streams, wait until each has its first message; close them in the end."""
        for _ in range(count):
            values: list[int] = []
            times: list[float] = []
            self._values.append(values)
            self._times.append(times)
            self._tasks.append(asyncio.create_task(self._follow(call(), values, times)))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while self._opened < count:
                    await asyncio.sleep(0.05)
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(
        self,
        stream: Stream,
        values: list[int],
        times: list[float],
    ) -> None:
        async for response in stream:
            values.append(response.export.encode_status.frames_done)
            times.append(time.monotonic())
            self.messages += 1
            self._opened += len(values) == 1

    async def rate(self, seconds: float) -> float:
        """Return the messages a second that arrive during the next seconds."""
        before, began = self.messages, time.monotonic()
        await asyncio.sleep(seconds)
        return (self.messages - before) / (time.monotonic() - began)

    def delays(self, changes: Mapping[int, float]) -> list[float]:
        """Return, sorted, the seconds from each change until the last watcher knew of it.

        Args:
            changes: when each value of `frames_done` came up, by time.monotonic().

        Raises:
            RuntimeError: a watcher never heard of one.
        """
        return sorted(self._last(value) - at for value, at in changes.items())

    def _last(self, value: int) -> float:
        latest = 0.0
        for values, times in zip(self._values, self._times, strict=True):
            index = bisect_left(values, value)
            if index == len(values):
                raise RuntimeError(f"a watcher did not hear of change {value}")
            latest = max(latest, times[index])
        return latest
