"""A connection to Postgres on which no answer is waited for without a limit of our own."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen

# Psycopg's own: how often it looks for an interrupt.
_LOOK_S = 0.1
# Time for the server's own refusal to arrive, which says more than that nothing came.
_GRACE_S = 1.0
# How long a server that is to cancel a statement may take to hear of it; on a healthy one
# that is a new connection.
_CANCEL_S = 1.0


class LimitedConnection(psycopg.AsyncConnection[Any]):
    """A connection that is cut when the server does not answer.

    The limit of statements is the server's, and TCP's is for a peer that is gone: neither
    ends while a frozen server's kernel goes on acknowledging what is sent to it.
    """

    _limit_s: float | None = None

    @classmethod
    async def open(cls, statement_s: float, **parameters: Any) -> LimitedConnection:
        """Connect.

        Args:
            statement_s: the server's limit of a statement, in seconds.
            parameters: psycopg's, with a limit of connecting among them.
        """
        connection = await cls.connect(**parameters)
        connection._limit_s = statement_s + _GRACE_S
        return connection

    async def wait(
        self, gen: PQGen[RV], interval: float = _LOOK_S, timeout: float | None = None
    ) -> RV:
        """Wait for the answer to a statement, as psycopg does, until the limit.

        Raises:
            psycopg.OperationalError: the connection is lost, or was cut.
        """
        if self._limit_s is None:
            return await super().wait(gen, interval, timeout)
        limit = asyncio.get_running_loop().call_later(self._limit_s, self._cut)
        try:
            return await super().wait(gen, interval, timeout)
        finally:
            limit.cancel()

    async def cancel_safe(self, *, timeout: float = _CANCEL_S) -> None:
        """Have the server cancel the statement; cut the connection where it does not listen.

        Psycopg asks for this when whoever waits is cancelled, and then waits for the end.

        Raises:
            psycopg.Error: it could not be told.
        """
        try:
            await super().cancel_safe(timeout=min(timeout, _CANCEL_S))
        except psycopg.Error:
            self._cut()
            raise

    def _cut(self) -> None:
        """End the connection beneath libpq: whoever waits is told that it is lost."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
