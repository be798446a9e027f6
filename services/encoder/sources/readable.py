"""Work that reads through the gateway ends as soon as what it reads is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from services.common.errors import DomainError
from services.encoder.errors import MediaError

T = TypeVar("T")


class Readable(Protocol):
    """What a child process reads through the gateway: a source, or parts."""

    @property
    def failure(self) -> MediaError | DomainError | None:
        """Why it is lost for good; None while it is not."""

    async def wait_failed(self) -> None:
        """Return once it is lost for good."""


async def unless_lost(work: Coroutine[Any, Any, T], *readables: Readable) -> T:
    """Return what the work returns; cancel it when something that it reads is lost.

    A demuxer that reads nothing more may search for the next frame until its time is
    over, or take what it has for the whole.

    Raises:
        MediaError, DomainError: what the work raised, or the true reason when what it
            reads is lost, also where the work came to an end.
    """
    working = asyncio.create_task(work)
    tasks: list[asyncio.Task[Any]] = [working]
    tasks += [asyncio.create_task(each.wait_failed()) for each in readables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in readables:
            if each.failure is not None:
                raise each.failure
        return await working
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
