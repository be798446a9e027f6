"""A commit whose answer is lost: nobody but Postgres knows that it has happened."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from api_rig import Rig
from api_service import SERVING, Surroundings, api_running

from services.common.errors import DomainError, Reason
from videoexport.client import AsyncClient

STATEMENT_S = 1
# Longer than the answer is waited for. The server's limit of statements is over by then: what
# is deferred to the commit is done after it.
COMMIT_S = STATEMENT_S + 2

SLOW_COMMIT = f"""
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep({COMMIT_S}); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER DELETE ON exports
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()"""


@pytest.fixture
async def slow_commits(rig: Rig) -> AsyncIterator[None]:
    """Who deletes an export has to wait long for the commit to be answered."""
    await rig.sql(SLOW_COMMIT)
    yield
    await rig.sql("DROP FUNCTION slow() CASCADE")


@pytest.mark.usefixtures("slow_commits")
async def test_change_that_may_be_stored_is_not_called_lost(empty_database: str) -> None:
    hasty = Rig(empty_database, timeout=STATEMENT_S)
    case = await hasty.create()
    with pytest.raises(DomainError) as raised:
        await hasty.exports.delete(case.id, "anna")
    assert raised.value.reason is Reason.STORE_UNAVAILABLE
    assert "may have been stored" in raised.value.message
    # Its rows are locked until then.
    assert await hasty.value("SELECT count(*) FROM exports") == 1
    await hasty.sql("SELECT 1 FROM exports FOR UPDATE")
    assert await hasty.value("SELECT count(*) FROM exports") == 0
    await hasty.close()


@pytest.mark.usefixtures("slow_commits")
async def test_deletion_whose_answer_was_lost_is_no_error_to_the_client(
    around: Surroundings, rig: Rig
) -> None:
    case = await rig.create()
    async with api_running(around, database_timeout=STATEMENT_S) as api:
        await api.until(SERVING)
        started = time.monotonic()
        async with AsyncClient(api.address, user="anna") as client:
            await client.delete(case.id)
        assert time.monotonic() - started > STATEMENT_S, "the first answer was not lost"
    assert await rig.value("SELECT count(*) FROM exports") == 0
