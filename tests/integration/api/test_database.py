"""The connection pool, and what its failures mean to a caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from api_rig import Rig
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from services.api.store import Database
from services.common.errors import DomainError, Reason
from services.local.infra import Infrastructure


async def refusal(action: object) -> DomainError:
    with pytest.raises(DomainError) as raised:
        await action  # type: ignore[misc]
    return raised.value


async def run(database: Database, statement: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement))


async def test_database_that_is_away_is_said_so() -> None:
    away = Rig("postgresql://nobody:hush@127.0.0.1:1/none", timeout=1)
    error = await refusal(away.exports.get("exp_1", "anna"))
    assert error.reason is Reason.STORE_UNAVAILABLE
    assert error.retry_after is not None
    assert "hush" not in error.message
    assert await away.database.ping() == error.message
    await away.close()


async def test_first_query_after_a_restart_of_postgres_succeeds(
    rig: Rig, infrastructure: Infrastructure
) -> None:
    case = await rig.create()
    await infrastructure.stop("postgres")
    await infrastructure.start("postgres")
    assert (await case.now()).id == case.id
    assert await rig.database.ping() is None


async def test_statement_that_takes_too_long_is_given_up(empty_database: str) -> None:
    database = Database(empty_database, pool_size=1, timeout=0.2)
    error = await refusal(run(database, "SELECT pg_sleep(5)"))
    assert error.reason is Reason.STORE_UNAVAILABLE
    await run(database, "SELECT 1")
    await database.close()


async def test_caller_does_not_wait_for_a_connection_for_ever(empty_database: str) -> None:
    database = Database(empty_database, pool_size=1, timeout=5, pool_timeout=0.3)
    async with database.transaction():
        error = await refusal(run(database, "SELECT 1"))
    assert error.reason is Reason.STORE_UNAVAILABLE
    assert "busy" in error.message
    assert error.retry_after is not None
    await run(database, "SELECT 1")
    await database.close()


async def test_row_that_another_transaction_keeps_is_not_waited_for_until_the_statements_limit(
    rig: Rig, empty_database: str
) -> None:
    await rig.create()
    database = Database(empty_database, pool_size=1, timeout=30, lock_timeout=0.2)
    async with rig.database.transaction() as holder:
        await holder.execute(text("SELECT 1 FROM exports FOR UPDATE"))
        async with asyncio.timeout(15):
            error = await refusal(run(database, "SELECT 1 FROM exports FOR UPDATE"))
    assert error.reason is Reason.STORE_UNAVAILABLE
    await run(database, "SELECT 1 FROM exports FOR UPDATE")
    await database.close()


async def test_transaction_that_fails_stores_nothing(rig: Rig) -> None:
    case = await rig.create()

    async def change_and_fail() -> None:
        async with rig.database.transaction() as connection:
            await connection.execute(text("DELETE FROM exports"))
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 — the block's own, as it is
        await change_and_fail()
    assert (await case.now()).id == case.id


async def test_transaction_that_is_cancelled_releases_its_rows(rig: Rig) -> None:
    case = await rig.create()
    locked = asyncio.Event()

    async def lock_and_wait() -> None:
        async with rig.database.transaction() as connection:
            await connection.execute(text("SELECT 1 FROM exports FOR UPDATE"))
            locked.set()
            await asyncio.sleep(60)

    holder = asyncio.create_task(lock_and_wait())
    await locked.wait()
    holder.cancel()
    await asyncio.gather(holder, return_exceptions=True)
    async with asyncio.timeout(2):
        await rig.exports.delete(case.id, "anna")


async def test_defect_in_a_statement_is_not_taken_for_an_outage(rig: Rig) -> None:
    with pytest.raises(DBAPIError):
        await run(rig.database, "SELECT nonsense")


@asynccontextmanager
async def read_only(rig: Rig) -> AsyncIterator[None]:
    """Have the server take no changes for the block, in sessions that are open as well."""

    async def settle(value: str) -> None:
        await rig.sql(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        await rig.sql("SELECT pg_reload_conf()")
        async with asyncio.timeout(10):
            while await rig.value("SHOW default_transaction_read_only") != value:
                await asyncio.sleep(0.02)

    await settle("on")
    try:
        yield
    finally:
        await settle("off")
        await rig.sql("ALTER SYSTEM RESET default_transaction_read_only")


async def test_server_that_takes_no_changes_is_unavailable_and_left(
    rig: Rig, empty_database: str
) -> None:
    database = Database(empty_database, pool_size=1, timeout=5)
    change = "DELETE FROM exports"
    await run(database, change)
    async with read_only(rig):
        error = await refusal(run(database, change))
        assert error.reason is Reason.STORE_UNAVAILABLE
        # The next connection looks for one that does: there may be another server by now.
        assert (await refusal(run(database, "SELECT 1"))).reason is Reason.STORE_UNAVAILABLE
    await run(database, change)
    await database.close()


async def test_server_that_takes_no_changes_is_not_ready(rig: Rig, empty_database: str) -> None:
    database = Database(empty_database, pool_size=1, timeout=5)
    assert await database.ping() is None
    async with read_only(rig):
        assert await database.ping() == "The database takes no changes at the moment."
        assert await database.ping() is not None
    assert await database.ping() is None
    await database.close()
