"""Cancelling tasks so that they really end.

`asyncio.wait_for` of Python 3.11 drops a cancellation that comes at the same
moment as its result, and nats-py waits with it for every answer: a loop that
asks NATS much goes on after most of its cancellations. Python 3.12 has mended it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

# Long enough for the clean-up of most tasks, which is not to be cut short.
PATIENCE = 1.0


async def cancel_until_done(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, again and again until all have ended; their outcome stays with them."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=PATIENCE)


def honour_cancellation() -> None:
    """End the current task if it was cancelled, for use after a wait that may have dropped it.

    Raises:
        asyncio.CancelledError
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
