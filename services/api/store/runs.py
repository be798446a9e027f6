"""Runs: executions of tasks on encoders, and every object that one may have left.

Events come twice, late and out of order; a run ends once, by the first word of it.
"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, runs
from services.api.store.records import to_json
from videoexport.v1 import task_pb2


async def begin_run(connection: AsyncConnection, event: task_pb2.TaskEvent) -> bool:
    """Keep that a run has begun; return False when it is known to have ended since."""
    statement = upsert(runs).values(
        id=event.run_id,
        task_id=event.task_id,
        attempt=event.attempt,
        delivery=event.started.delivery_count,
        encoder_id=event.encoder_id,
    )
    begun = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[runs.c.id],
            set_={"delivery": statement.excluded.delivery},
            where=runs.c.ended_at.is_(None),
        ).returning(runs.c.id)
    )
    return begun.one_or_none() is not None


async def end_run(connection: AsyncConnection, event: task_pb2.TaskEvent, outcome: str) -> bool:
    """Keep how a run ended; return False when that is known already."""
    statement = upsert(runs).values(
        id=event.run_id,
        task_id=event.task_id,
        attempt=event.attempt,
        delivery=0,  # its start was not heard of, or comes later
        encoder_id=event.encoder_id,
        outcome=outcome,
        error=to_json(event.failed) if event.HasField("failed") else None,
        ended_at=func.now(),
    )
    new = statement.excluded
    ended = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[runs.c.id],
            set_={"outcome": new.outcome, "error": new.error, "ended_at": new.ended_at},
            where=runs.c.ended_at.is_(None),
        ).returning(runs.c.id)
    )
    return ended.one_or_none() is not None


async def is_winner(connection: AsyncConnection, event: task_pb2.TaskEvent) -> bool:
    """Return whether the export's output is the one that this run has made."""
    query = select(exports.c.output_run_id).where(exports.c.id == event.export_id)
    return (await connection.execute(query)).scalar_one_or_none() == event.run_id


async def unfinished_runs(connection: AsyncConnection, task_id: str) -> tuple[str, ...]:
    """Return the runs of a task that may still go on."""
    query = select(runs.c.id).where(runs.c.task_id == task_id, runs.c.ended_at.is_(None))
    return tuple((await connection.execute(query)).scalars())
