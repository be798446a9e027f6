"""Progress never goes back, and what hangs is noticed."""

from __future__ import annotations

import asyncio
import time

import pytest

from videoexport.transfer.pacing import Patience, Progress, no_stall


def test_progress_tells_lost_bytes_once() -> None:
    told: list[int] = []
    progress = Progress(told.append)
    for count in (10, 10, -20, 5, 10, 10):
        progress.moved(count)
    assert told == [10, 20, 25]


async def test_no_stall_ends_what_does_not_move() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with no_stall(Patience(stall=0.05)):
            await asyncio.sleep(5)
    assert time.monotonic() - started < 1


async def test_no_stall_lets_go_on_what_moves() -> None:
    async with no_stall(Patience(stall=0.5, least_rate=100)) as moved:
        for _ in range(15):
            await asyncio.sleep(0.05)
            moved(10)


async def test_no_stall_ends_what_trickles() -> None:
    async def trickle() -> None:
        async with no_stall(Patience(stall=0.2, least_rate=1000)) as moved:
            for _ in range(1000):
                await asyncio.sleep(0.02)
                moved(1)

    with pytest.raises(TimeoutError):
        await trickle()


def test_patience_knows_progress_by_its_rate() -> None:
    patience = Patience(least_rate=1000)
    assert patience.gets_on(1000, 1)
    assert not patience.gets_on(999, 1)
    assert patience.gets_on(1, 0)
    assert not patience.gets_on(0, 0)


async def test_no_stall_may_be_told_after_its_end() -> None:
    async with no_stall(Patience(stall=0.05)) as moved:
        pass
    moved(1 << 30)


async def test_patience_grows_to_its_bound() -> None:
    patience = Patience(first_delay=0.01, longest_delay=0.04)
    started = time.monotonic()
    await patience.wait(1)
    assert time.monotonic() - started < 0.04
    started = time.monotonic()
    await patience.wait(30)
    assert 0.02 <= time.monotonic() - started < 1
