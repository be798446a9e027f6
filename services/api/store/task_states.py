"""From one state of a task to the next, and what its export shows of that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import exists, func, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, tasks
from services.api.states import (
    ACTIVE_EXPORTS,
    UNDECIDED_TASKS,
    ExportState,
    TaskState,
    export_sources,
    task_sources,
)
from services.api.store.records import TaskRecord

# What is shown of an export while a task of a kind runs.
PHASES = {"PROBE": "PROBING", "ASSEMBLE": "ASSEMBLING", "COPY": "UPLOADING", "MEASURE": "VERIFYING"}


async def make_pending(
    connection: AsyncConnection, task: TaskRecord, delay: timedelta, *, failures: int
) -> None:
    """Have a task tried again, after a pause; its export waits unless others run."""
    await connection.execute(
        update(tasks)
        .where(tasks.c.id == task.id, tasks.c.state.in_(UNDECIDED_TASKS))
        .values(state=TaskState.PENDING, not_before=func.now() + delay, failures=failures)
    )
    running = exists().where(
        tasks.c.export_id == task.export_id, tasks.c.state == TaskState.RUNNING
    )
    await connection.execute(
        update(exports)
        .where(exports.c.id == task.export_id, exports.c.state.in_(ACTIVE_EXPORTS), ~running)
        .values(phase="WAITING", updated_at=func.now())
    )


async def finish_task(
    connection: AsyncConnection, task_id: str, state: TaskState, **extra: Any
) -> None:
    """Decide a task."""
    await connection.execute(
        update(tasks)
        .where(tasks.c.id == task_id, tasks.c.state.in_(task_sources(state)))
        .values(state=state, ended_at=func.now(), **extra)
    )


async def set_processing(connection: AsyncConnection, task: TaskRecord) -> None:
    """Show that an export is being worked on, by the task that runs."""
    await connection.execute(
        update(exports)
        .where(
            exports.c.id == task.export_id,
            exports.c.state.in_((*export_sources(ExportState.PROCESSING), ExportState.PROCESSING)),
        )
        .values(
            state=ExportState.PROCESSING,
            started_at=func.coalesce(exports.c.started_at, func.now()),
            phase=PHASES.get(task.kind, "ENCODING"),
            updated_at=func.now(),
        )
    )
