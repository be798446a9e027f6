"""What Postgres holds, asked past the services and past the relays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg.rows import dict_row

T = TypeVar("T")
Row = dict[str, Any]

CONNECT_TIMEOUT_S = 2
POLL_S = 0.05


class Rows:
    """One connection, opened again whenever it was lost; for many tasks at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._turn = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[Row] | None = None

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                await self._connection.close()
            self._connection = None

    async def ask(self, query: str, **values: object) -> list[Row]:
        """Return the rows of a query; what it changes is committed.

        Raises:
            psycopg.OperationalError: the server is away.
        """
        async with self._turn:
            if self._connection is not None:
                # Postgres may have been replaced since the last question.
                with suppress(psycopg.OperationalError):
                    return await self._execute(self._connection, query, values)
            self._connection = await psycopg.AsyncConnection.connect(
                self._url,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                row_factory=dict_row,
            )
            return await self._execute(self._connection, query, values)

    async def _execute(
        self, connection: psycopg.AsyncConnection[Row], query: str, values: dict[str, object]
    ) -> list[Row]:
        try:
            # Constant text, all of it in this package.
            cursor = await connection.execute(query.encode(), values)
            return await cursor.fetchall() if cursor.description else []
        except BaseException:
            # Also when given up half-way: the answer would be taken for the next one's.
            await self.close()
            raise

    async def one(self, query: str, **values: object) -> Row | None:
        """Return the first row, if there is one."""
        found = await self.ask(query, **values)
        return found[0] if found else None


async def until(ask: Callable[[], Awaitable[T | None]], within: float) -> T:
    """Ask again and again until there is an answer; a database that is away has none.

    Raises:
        TimeoutError: there was none within so many seconds.
    """
    async with asyncio.timeout(within):
        while True:
            with suppress(psycopg.OperationalError):
                answer = await ask()
                if answer is not None:
                    return answer
            await asyncio.sleep(POLL_S)
