"""Cancellations that Python 3.11 may drop."""

from __future__ import annotations

import asyncio

import pytest

from services.common import cancellation
from services.common.cancellation import cancel_until_done, honour_cancellation


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "PATIENCE", 0.01)


async def stubborn(drops: int, log: list[str]) -> None:
    """Drop so many cancellations, as a wait that has its result already does."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            log.append("cancelled")
            if len(log) > drops:
                raise


@pytest.mark.parametrize("drops", [0, 1, 3])
async def test_task_is_cancelled_until_it_ends(drops: int) -> None:
    log: list[str] = []
    task = asyncio.create_task(stubborn(drops, log))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancel_until_done([task])
    assert task.cancelled()
    assert len(log) == drops + 1


async def test_tasks_that_have_ended_are_left_as_they_are() -> None:
    async def fail() -> None:
        raise ValueError("theirs")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    await cancel_until_done([task])
    await cancel_until_done([])
    with pytest.raises(ValueError, match="theirs"):
        task.result()


async def test_clean_up_is_waited_for() -> None:
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned = True

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancel_until_done([task])
    assert cleaned


async def test_dropped_cancellation_is_honoured_afterwards() -> None:
    async def drop_and_go_on() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            honour_cancellation()
        return "went on"

    task = asyncio.create_task(drop_and_go_on())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_without_a_cancellation_there_is_nothing_to_honour() -> None:
    honour_cancellation()
