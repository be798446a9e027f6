"""What watchers note, and when a change has reached the last of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from bench.load import Watchers, closed_loop
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service


async def stream(values: Sequence[tuple[float, int]]) -> AsyncIterator[service.WatchExportResponse]:
    """Yield each value of `frames_done` after its pause, then stay open."""
    for pause, value in values:
        await asyncio.sleep(pause)
        status = pb.EncodeStatus(frames_done=value)
        yield service.WatchExportResponse(export=pb.Export(encode_status=status))
    await asyncio.sleep(60)


async def test_change_has_arrived_when_the_last_watcher_knows_it_or_a_later_one() -> None:
    streams = iter([stream([(0, 0), (0.1, 1), (0, 2)]), stream([(0, 0), (0.3, 2)])])
    watchers = Watchers()
    async with watchers.watch(lambda: next(streams), 2):  # type: ignore[arg-type,return-value]
        began = time.monotonic()
        await asyncio.sleep(0.4)
    assert watchers.messages == 5
    # The second watcher skips the first change.
    [first, second] = watchers.delays({1: began, 2: began})
    assert first == second
    assert first == pytest.approx(0.3, abs=0.15)


async def test_change_that_a_watcher_never_heard_of_is_an_error() -> None:
    watchers = Watchers()
    async with watchers.watch(lambda: stream([(0, 0)]), 1):  # type: ignore[arg-type,return-value]
        pass
    with pytest.raises(RuntimeError):
        watchers.delays({1: 0.0})


async def test_closed_loop_keeps_every_caller_busy() -> None:
    busy: set[int] = set()

    async def call(caller: int) -> None:
        busy.add(caller)
        await asyncio.sleep(0.02)

    rate = await closed_loop(call, callers=4, seconds=0.2)
    assert busy == {0, 1, 2, 3}
    assert rate.per_second == pytest.approx(4 / 0.02, rel=0.5)
    assert rate.latencies == sorted(rate.latencies)
