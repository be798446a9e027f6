"""Objects that a transaction has made garbage: written down in it, deleted afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import object_deletions, runs, tasks
from services.api.store.records import to_json
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

# A run that is told to stop may just be completing its upload, and a paused
# encoder hears it only when it wakes: so every object is deleted at once, and
# once more after encoders have either heard or lost their task.
SECOND_LOOK = timedelta(minutes=10)
# The kinds that write an object of their run's own; parts are nobody's garbage, for later
# exports find them, and storage removes them by their age.
OUTPUTS = ("WHOLE", "ASSEMBLE", "COPY")


def output_of(export_id: str, run_id: str) -> storage.ObjectRef:
    """Return the object that a run of an export writes."""
    return storage.ObjectRef(export_output=storage.ExportOutput(export_id=export_id, run_id=run_id))


async def discard_run_objects(
    connection: AsyncConnection, export_id: str, *, keep_run_id: str | None
) -> None:
    """Have the objects of all runs of an export deleted, but for the one to keep.

    Runs that still go on count as ended from now on: what they make is
    deleted, so none of them may win when the export is tried again.
    """
    rows = (
        await connection.execute(
            select(runs.c.id, runs.c.ended_at, tasks.c.user_id, tasks.c.kind)
            .join(tasks, tasks.c.id == runs.c.task_id)
            .where(tasks.c.export_id == export_id, tasks.c.kind != "PROBE")
        )
    ).all()
    condemned = [row for row in rows if row.id != keep_run_id]
    await _end_discarded(connection, [row.id for row in condemned if row.ended_at is None])
    outputs = [row for row in condemned if row.kind in OUTPUTS]
    await discard(connection, [(row.user_id, output_of(export_id, row.id)) for row in outputs])


async def write_off(connection: AsyncConnection, run_id: str) -> None:
    """Have one run count as ended from now on, whatever it says later."""
    await _end_discarded(connection, [run_id])


async def condemn_run(connection: AsyncConnection, event: task_pb2.TaskEvent) -> None:
    """Have the object of one run deleted, which counts as ended from now on."""
    await write_off(connection, event.run_id)
    await discard(connection, [(event.user_id, output_of(event.export_id, event.run_id))])


async def _end_discarded(connection: AsyncConnection, run_ids: Sequence[str]) -> None:
    await connection.execute(
        update(runs).where(runs.c.id.in_(run_ids)).values(outcome="DISCARDED", ended_at=func.now())
    )


async def discard(
    connection: AsyncConnection, objects: Iterable[tuple[str, storage.ObjectRef]]
) -> None:
    """Have objects deleted, each given with its owner."""
    values: list[dict[str, Any]] = []
    for user_id, reference in objects:
        data = to_json(reference)
        values.append({"user_id": user_id, "object": data, "not_before": func.now()})
        values.append({"user_id": user_id, "object": data, "not_before": func.now() + SECOND_LOOK})
    if values:
        await connection.execute(insert(object_deletions).values(values))
