"""Postgres that is frozen: its kernel acknowledges what is sent to it, and no answer comes."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from api_parts import until
from api_rig import Rig
from api_service import (
    ANNA,
    NOT_SERVING,
    SERVING,
    FakeEncoder,
    Surroundings,
    api_running,
    create,
    is_state,
    refusal,
)
from sqlalchemy import text

from faults.cluster import family, resume
from services.api.store import Database
from services.common.errors import DomainError, Reason
from services.common.subjects import Lane
from services.local.infra import Infrastructure
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service

STATEMENT_S = 1
# A statement with the grace of its limit, and connecting, which takes 2 s at the least.
LIMIT_S = STATEMENT_S + 1 + 2
# Other work on the machine.
SLACK_S = 2


@asynccontextmanager
async def frozen(infrastructure: Infrastructure) -> AsyncIterator[None]:
    """Stop every process of Postgres for the block."""
    pid = infrastructure.pids["postgres"]
    # The leader first, so that no other comes meanwhile.
    for process in family(pid):
        process.send_signal(signal.SIGSTOP)
    for process in family(pid):
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        resume(pid)


async def run(database: Database, statement: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement))


async def unavailable(database: Database, statement: str) -> float:
    """Return how long it takes until a statement is said to be in vain."""
    started = time.monotonic()
    with pytest.raises(DomainError) as raised:
        await run(database, statement)
    assert raised.value.reason is Reason.STORE_UNAVAILABLE
    return time.monotonic() - started


@pytest.fixture
async def database(empty_database: str) -> AsyncIterator[Database]:
    """A pool of two connections, both open."""
    database = Database(empty_database, pool_size=2, timeout=STATEMENT_S)
    await asyncio.gather(*(run(database, "SELECT pg_sleep(0.1)") for _ in range(2)))
    yield database
    await database.close()


async def test_statement_that_nobody_answers_is_given_up(
    database: Database, infrastructure: Infrastructure
) -> None:
    waiting = asyncio.create_task(unavailable(database, "SELECT pg_sleep(0.5)"))
    await asyncio.sleep(0.2)
    async with frozen(infrastructure):
        assert await waiting < LIMIT_S + SLACK_S
        # The other connection is asked whether it lives, and a new one is tried.
        assert await unavailable(database, "SELECT 1") < LIMIT_S + SLACK_S
        assert await database.ping() is not None
    await run(database, "SELECT 1")
    assert await database.ping() is None


async def test_who_stops_waiting_for_a_frozen_server_is_released_soon(
    empty_database: str, infrastructure: Infrastructure
) -> None:
    patient = Database(empty_database, pool_size=1, timeout=30)
    await run(patient, "SELECT 1")
    async with frozen(infrastructure):
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await run(patient, "SELECT 1")
        assert time.monotonic() - started < 0.3 + 1 + SLACK_S
    await run(patient, "SELECT 1")
    await patient.close()


async def test_callers_and_health_are_told_and_everything_goes_on_afterwards(
    around: Surroundings, rig: Rig, encoder: FakeEncoder
) -> None:
    video = await encoder.probed_video(rig)
    async with api_running(around, database_timeout=STATEMENT_S) as api:
        await api.until(SERVING)
        export = await create(api, video)
        request = service.GetExportRequest(export_id=export.id)
        task = await encoder.take(Lane.CPU)
        async with frozen(around.infrastructure):
            started = time.monotonic()
            refused = await refusal(api.exports.GetExport(request, metadata=ANNA))
            assert refused.reason == "STORE_UNAVAILABLE"
            assert time.monotonic() - started < LIMIT_S + SLACK_S
            await api.until(NOT_SERVING)
            await encoder.begin(task, f"run_{uuid4().hex}")
            # Every loop has met the frozen server, and most of them more than once.
            await asyncio.sleep(2 * LIMIT_S)
        await api.until(SERVING)
        await encoder.encode(task, b"after the frost")
        await until(lambda: is_state(api, export.id, pb.EXPORT_STATE_COMPLETED))
        second = await create(api, await encoder.probed_video(rig))
        assert (await encoder.take(Lane.CPU)).export_id == second.id
