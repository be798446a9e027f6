"""Ends of exports, for other services: written in the transaction of the end, sent afterwards."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import announcements, exports
from services.api.store.records import from_json, to_json
from services.common.times import timestamp_of
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# What an UPDATE that ends exports returns, for `announce_later`.
ENDED = (
    exports.c.id,
    exports.c.user_id,
    exports.c.state,
    exports.c.error,
    exports.c.warnings,
    exports.c.created_at,
    exports.c.updated_at,
    # A plan may hold a thousand segments, and these two are all that is asked of it.
    *(
        func.coalesce(exports.c.plan[name].astext, exports.c.settings[name].astext).label(name)
        for name in ("resolution", "quality")
    ),
)


async def announce_later(connection: AsyncConnection, ended: list[Row[Any]]) -> None:
    """Have ends announced.

    Args:
        ended: rows of `ENDED`, just updated.
    """
    if ended:
        messages = [{"message": to_json(_message(row))} for row in ended]
        await connection.execute(insert(announcements).values(messages))


def _message(row: Row[Any]) -> task_pb2.ExportEnded:
    message = task_pb2.ExportEnded(
        export_id=row.id,
        user_id=row.user_id,
        state=pb.ExportState.Value(f"EXPORT_STATE_{row.state}"),
        create_time=timestamp_of(row.created_at),
        # It ended in this transaction.
        end_time=timestamp_of(row.updated_at),
        resolution=row.resolution,
        quality=row.quality,
        warnings=[from_json(warning, pb.ExportWarning()) for warning in row.warnings],
    )
    if row.error is not None:
        message.error.CopyFrom(from_json(row.error, pb.ExportError()))
    return message


async def lock_oldest(connection: AsyncConnection) -> tuple[int, task_pb2.ExportEnded] | None:
    """Return the oldest end that no other replica is announcing."""
    query = (
        select(announcements.c.id, announcements.c.message)
        .order_by(announcements.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row.id, from_json(row.message, task_pb2.ExportEnded()))


async def remove(connection: AsyncConnection, announcement: int) -> None:
    """Forget an end that was announced."""
    await connection.execute(delete(announcements).where(announcements.c.id == announcement))
