"""Waking loops."""

from __future__ import annotations

import asyncio
import time

from services.api.signals import Wake


async def test_wake_returns_at_once_when_it_was_set_before() -> None:
    wake = Wake()
    wake.set()
    wake.set()
    async with asyncio.timeout(1):
        await wake.wait(60)


async def test_wake_returns_when_it_is_set_meanwhile() -> None:
    wake = Wake()
    asyncio.get_running_loop().call_later(0.01, wake.set)
    async with asyncio.timeout(1):
        await wake.wait(60)


async def test_wake_wakes_once_however_often_it_was_set() -> None:
    wake = Wake()
    wake.set()
    await wake.wait(60)
    started = time.monotonic()
    await wake.wait(0.05)
    assert time.monotonic() - started >= 0.04


async def test_wake_returns_after_the_interval_by_itself() -> None:
    async with asyncio.timeout(1):
        await Wake().wait(0.01)
