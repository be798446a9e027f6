"""The tasks of an export as one: storing them, replacing them, beginning them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, tasks
from services.api.states import ACTIVE_TASKS, IN_FLIGHT_TASKS, TaskState, task_sources
from services.api.store.assembly import with_other_key
from services.api.store.garbage import discard_run_objects
from services.api.store.records import ExportRecord, NewTask, Planned, from_json, to_json
from services.api.store.reuse import use_parts
from services.common.damage import merged_warnings
from videoexport.v1 import export_pb2 as pb

# The kinds that encode pictures: what a watcher sees as frames.
PICTURES = ("WHOLE", "VIDEO")
# The kinds whose results are joined.
PARTS = ("VIDEO", "AUDIO")
# The kinds that wait for what others make.
LATER = ("ASSEMBLE", "MEASURE")


async def insert_work(
    connection: AsyncConnection,
    export_id: str,
    user_id: str,
    priority: int,
    work: Sequence[NewTask],
    *,
    created_at: datetime | None = None,
) -> None:
    """Store the tasks of an export: what is made already as done, the rest as due.

    Args:
        created_at: of the export, where it is older than this transaction.
    """
    same: dict[str, Any] = {"export_id": export_id, "user_id": user_id, "priority": priority}
    if created_at is not None:
        same["created_at"] = created_at
    # One statement, and so one entry to the history's trigger, for ten thousand tasks.
    columns: list[ColumnElement[Any]] = []
    columns += [literal(value, tasks.c[name].type) for name, value in same.items()]
    rows = [_values(task) for task in work]
    for name in rows[0]:
        values = literal([row[name] for row in rows], ARRAY(tasks.c[name].type))
        columns.append(func.unnest(values))
    names = [*same, *rows[0]]
    await connection.execute(insert(tasks).from_select(names, select(*columns)))
    to_encode = [task.frames for task in work if task.kind in PICTURES and not task.reused]
    await connection.execute(
        update(exports).where(exports.c.id == export_id).values(frames_to_encode=sum(to_encode))
    )
    made = [task.part_key for task in work if task.made and task.part_key is not None]
    if made:
        await use_parts(connection, user_id, made)
    await assemble_if_ready(connection, export_id)


def _values(task: NewTask) -> dict[str, Any]:
    state = TaskState.WAITING if task.kind in LATER else TaskState.PENDING
    return {
        "id": task.id,
        "kind": task.kind,
        "lane": task.lane,
        "state": TaskState.SUCCEEDED if task.made else state,
        "message": task.message,
        "frames": task.frames,
        "frames_done": task.frames if task.made else 0,
        "part_key": task.part_key,
        "reused": task.reused,
    }


async def plan_again(
    connection: AsyncConnection, record: ExportRecord, planned: Planned, *, generation: int
) -> list[str]:
    """Give an export other tasks; return those of the former that may be running.

    What they have stored so far is found by its key, so nothing is made twice.
    """
    running = await end_tasks(connection, record.id)
    await discard_run_objects(connection, record.id, keep_run_id=None)
    await connection.execute(delete(tasks).where(tasks.c.export_id == record.id))
    await set_plan(connection, record, planned)
    await connection.execute(
        update(exports)
        .where(exports.c.id == record.id)
        .values(replans=exports.c.replans + 1, generation=generation)
    )
    return running


async def set_plan(connection: AsyncConnection, record: ExportRecord, planned: Planned) -> None:
    """Keep the plan of an export, and store its tasks."""
    warnings = merged_warnings(*record.warnings, *planned.warnings)
    await connection.execute(
        update(exports)
        .where(exports.c.id == record.id)
        .values(
            plan=to_json(planned.plan),
            warnings=[to_json(item) for item in warnings],
            fingerprint=planned.fingerprint,
            phase="WAITING",
            updated_at=func.now(),
        )
    )
    await insert_work(
        *(connection, record.id, record.user_id, record.priority, planned.work),
        created_at=record.created_at,
    )


async def add_warnings(
    connection: AsyncConnection, export_id: str, warnings: Iterable[pb.ExportWarning]
) -> None:
    """Tell the owner of an export more."""
    this = exports.c.id == export_id
    query = select(exports.c.warnings).where(this).with_for_update()
    known = [
        from_json(item, pb.ExportWarning())
        for item in (await connection.execute(query)).scalar_one()
    ]
    told = [to_json(item) for item in merged_warnings(*known, *warnings)]
    await connection.execute(update(exports).where(this).values(warnings=told))


async def assemble_if_ready(connection: AsyncConnection, export_id: str) -> None:
    """Let the assembly of an export begin once every part is made."""
    part = tasks.alias("part")
    unmade = exists().where(
        part.c.export_id == export_id,
        part.c.kind.in_(PARTS),
        part.c.state != TaskState.SUCCEEDED,
    )
    await connection.execute(
        update(tasks)
        .where(
            tasks.c.export_id == export_id,
            tasks.c.kind == "ASSEMBLE",
            tasks.c.state == TaskState.WAITING,
            ~unmade,
        )
        .values(state=TaskState.PENDING, not_before=func.now())
    )


async def take_from(
    connection: AsyncConnection, export_id: str, planned: bytes, stored: bytes
) -> None:
    """Have an assembly take a part from where it was stored: by an encoder with other tools."""
    row = (
        await connection.execute(
            select(tasks.c.id, tasks.c.message).where(
                tasks.c.export_id == export_id, tasks.c.kind == "ASSEMBLE"
            )
        )
    ).one()
    message = with_other_key(row.message, planned, stored)
    await connection.execute(update(tasks).where(tasks.c.id == row.id).values(message=message))


async def begin_again(connection: AsyncConnection, export_id: str) -> None:
    """Make every task of an export due again that had failed or was cancelled."""
    waits = tasks.c.kind.in_(LATER)
    sources = set(task_sources(TaskState.WAITING)) & set(task_sources(TaskState.PENDING))
    await connection.execute(
        update(tasks)
        .where(tasks.c.export_id == export_id, tasks.c.state.in_(sorted(sources)))
        .values(
            state=case((waits, TaskState.WAITING), else_=TaskState.PENDING),
            failures=0,
            frames_done=0,
            not_before=func.now(),
            ended_at=None,
        )
    )
    await assemble_if_ready(connection, export_id)


async def end_tasks(connection: AsyncConnection, export_id: str) -> list[str]:
    """Cancel the tasks of an ended export that are not decided; return those that were sent out."""
    # Read first: an UPDATE returns the new state only, and only sent ones run anywhere.
    # All are locked before their states are looked at: one may just be sent out.
    rows = await connection.execute(
        select(tasks.c.id, tasks.c.state)
        .where(tasks.c.export_id == export_id, tasks.c.state.in_(ACTIVE_TASKS))
        .with_for_update()
    )
    task_ids = [str(row.id) for row in rows if row.state in IN_FLIGHT_TASKS]
    await connection.execute(
        update(tasks)
        .where(tasks.c.export_id == export_id, tasks.c.state.in_(ACTIVE_TASKS))
        .values(state=TaskState.CANCELLED, ended_at=func.now())
    )
    return task_ids


async def made_by_others(connection: AsyncConnection, export_id: str) -> set[bytes]:
    """Return the keys of the parts of an export that earlier ones had made."""
    query = select(tasks.c.part_key).where(tasks.c.export_id == export_id, tasks.c.reused)
    return set((await connection.execute(query)).scalars())
