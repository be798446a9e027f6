"""The connection pool, and what its failures mean to a caller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from services.api.migrate import driver_url, misfit
from services.api.store.connection import LimitedConnection
from services.api.store.history import Change, say
from services.common.errors import DomainError, Reason

# What a server says to a change that takes none: it follows another one, or is told so.
READ_ONLY = "25006"


class Database:
    """Postgres, as transactions.

    Args:
        url: `postgresql://…`.
        pool_size: most connections that are open.
        timeout: seconds for one statement.
        pool_timeout: seconds of waiting for one of the connections.
        lock_timeout: seconds of waiting for a row that another transaction has.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        timeout: float,
        pool_timeout: float = 2.0,
        lock_timeout: float = 3.0,
    ) -> None:
        self._schema_fits = False
        self._engine = create_async_engine(
            driver_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout,
            # A restarted server leaves dead connections behind; asking first
            # costs a round trip and saves the caller's transaction.
            pool_pre_ping=True,
            connect_args={
                "async_creator_fn": partial(LimitedConnection.open, timeout),
                # After a failover the address may lead to a server that follows another one.
                "target_session_attrs": "read-write",
                "connect_timeout": max(2, int(timeout)),
                # These notice between two statements that the server is gone.
                "keepalives_idle": 5,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": int(timeout * 2000),
                "options": f"-c statement_timeout={int(timeout * 1000)}"
                f" -c lock_timeout={int(lock_timeout * 1000)}"
                f" -c idle_in_transaction_session_timeout={int(timeout * 4000)}",
            },
        )
        event.listen(self._engine.sync_engine, "handle_error", _leave_read_only)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self, change: Change | None = None) -> AsyncIterator[AsyncConnection]:
        """Run the block in one transaction, committed at its end.

        Args:
            change: who changes states in it and why, for the history; one round trip more.

        Raises:
            DomainError: STORE_UNAVAILABLE when Postgres cannot be reached or
                does not answer in time, or its schema is of an older version.
                Nothing was stored, unless the answer to the commit is lost.
        """
        committing = False
        try:
            async with self._engine.connect() as connection:
                if not self._schema_fits:
                    await self._check_schema(connection)
                if change is not None:
                    await say(connection, change)
                yield connection
                committing = True
                await connection.commit()
        except PoolTimeout as error:
            raise DomainError(
                Reason.STORE_UNAVAILABLE,
                "Every connection to the database is busy at the moment; nothing was stored.",
            ) from error
        except (OperationalError, InterfaceError) as error:
            raise unavailable(committing) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise unavailable(committing) from error
            raise

    async def _check_schema(self, connection: AsyncConnection) -> None:
        """Refuse to work on a schema of an older version, whose rows would lack what is ours.

        Raises:
            DomainError: STORE_UNAVAILABLE.
        """
        there = await connection.execute(text("SELECT to_regclass('alembic_version')"))
        found = None
        if there.scalar_one() is not None:
            version = await connection.execute(text("SELECT version_num FROM alembic_version"))
            found = version.scalar_one_or_none()
        problem = misfit(found)
        self._schema_fits = problem is None
        if problem is not None:
            raise DomainError(Reason.STORE_UNAVAILABLE, problem)

    async def ping(self) -> str | None:
        """Return why the database cannot be used, or None."""
        try:
            async with self.transaction() as connection:
                # Again each time: somebody may have taken a migration back.
                await self._check_schema(connection)
                read_only = await connection.execute(text("SHOW transaction_read_only"))
                if read_only.scalar_one() == "on":
                    await connection.invalidate()
                    raise DomainError(
                        Reason.STORE_UNAVAILABLE, "The database takes no changes at the moment."
                    )
        except DomainError as error:
            return error.message
        return None


def _leave_read_only(context: ExceptionContext) -> None:
    """Drop the connections to a server that takes no changes: the next may lead to another."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


def unavailable(committing: bool) -> DomainError:
    """Return the error for a database that does not answer.

    Args:
        committing: whether it was to commit: only it knows then whether it has.
    """
    stored = "the change may have been stored or not" if committing else "nothing was stored"
    return DomainError(
        Reason.STORE_UNAVAILABLE, f"The database cannot be reached at the moment; {stored}."
    )
