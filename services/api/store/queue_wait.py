"""Exports that have waited too long: something of them is due, and nobody works on any of it.

One whose file is finished, and only still to be compared with its source, is completed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, tasks
from services.api.states import ACTIVE_EXPORTS, UNDECIDED_TASKS, ExportState
from services.api.store.exports import end_export
from services.api.store.garbage import discard_run_objects
from services.api.store.measuring import complete_unmeasured
from services.api.store.records import to_json
from services.api.store.work import end_tasks
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb


@dataclass(frozen=True, slots=True)
class Overdue:
    """An export that has waited too long.

    Attributes:
        lane: of the task that waits longest.
        since: when that was due.
    """

    export_id: str
    lane: Lane
    since: datetime


@dataclass(frozen=True, slots=True)
class GivenUp:
    """What became of an export that has waited too long.

    Attributes:
        sent: tasks of it that were sent out.
        output: its file, where it was completed.
    """

    sent: tuple[str, ...]
    output: pb.Output | None = None


async def find_overdue(
    connection: AsyncConnection, wait: timedelta, *, limit: int, finished: bool = False
) -> list[Overdue]:
    """Return exports with a task that was due so long ago, of which nothing was heard since.

    Args:
        finished: only those whose file is there.
    """
    due = [exports.c.state.in_(ACTIVE_EXPORTS), _waits(wait), ~_heard_of(wait)]
    if finished:
        due.append(exports.c.output_run_id.is_not(None))
    query = (
        select(tasks.c.export_id, tasks.c.lane, tasks.c.not_before)
        .ext(distinct_on(tasks.c.export_id))
        .select_from(tasks.join(exports, exports.c.id == tasks.c.export_id))
        .where(*due)
        # Of those that have waited equally long, pictures before their sound.
        .order_by(tasks.c.export_id, tasks.c.not_before, tasks.c.lane)
        .limit(limit)
    )
    rows = (await connection.execute(query)).all()
    return [Overdue(str(row.export_id), Lane(row.lane), row.not_before) for row in rows]


async def give_up_overdue(
    connection: AsyncConnection, export_id: str, wait: timedelta, error: pb.ExportError
) -> GivenUp | None:
    """End an export: with an error, or with its file where that is there.

    Returns:
        None when it has ended otherwise, or is worked on by now.
    """
    lock = select(exports.c.id).where(exports.c.id == export_id).with_for_update(of=exports)
    still = select(exists().where(tasks.c.export_id == export_id, _waits(wait), ~_heard_of(wait)))
    await connection.execute(lock)
    if not (await connection.execute(still)).scalar_one():
        return None
    if await _has_output(connection, export_id):
        output = await complete_unmeasured(connection, export_id, error.message)
        return GivenUp(tuple(await end_tasks(connection, export_id)), output)
    if not await end_export(connection, export_id, ExportState.FAILED, error=to_json(error)):
        return None
    sent = await end_tasks(connection, export_id)
    await discard_run_objects(connection, export_id, keep_run_id=None)
    return GivenUp(tuple(sent))


async def _has_output(connection: AsyncConnection, export_id: str) -> bool:
    """Return whether all that is left to do is to compare the finished file with its source."""
    query = select(exports.c.output_run_id).where(exports.c.id == export_id)
    return (await connection.execute(query)).scalar_one() is not None


def _waits(wait: timedelta) -> ColumnElement[bool]:
    """Whether a task was due so long ago."""
    return and_(tasks.c.state.in_(UNDECIDED_TASKS), tasks.c.not_before < func.now() - wait)


def _heard_of(wait: timedelta) -> ColumnElement[bool]:
    """Whether any task of the same export was sent out, in work or ended in that time."""
    other = tasks.alias("other")
    return exists().where(
        other.c.export_id == tasks.c.export_id,
        or_(other.c.seen_at >= func.now() - wait, other.c.ended_at >= func.now() - wait),
    )
