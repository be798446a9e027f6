"""How far runs are, as it is kept in the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Float, Text, column, func, select, update, values
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, tasks
from services.api.states import ACTIVE_TASKS, ExportState


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest word on a run."""

    task_id: str
    export_id: str
    run_id: str
    attempt: int
    phase: str
    frames_done: int


async def lock_running(connection: AsyncConnection, updates: Sequence[Progress]) -> dict[str, int]:
    """Lock exports, then their tasks; return the attempts of the tasks that are not decided."""
    await connection.execute(
        select(exports.c.id)
        .where(exports.c.id.in_({item.export_id for item in updates}))
        .order_by(exports.c.id)
        .with_for_update()
    )
    rows = await connection.execute(
        select(tasks.c.id, tasks.c.attempt)
        .where(tasks.c.id.in_({item.task_id for item in updates}), tasks.c.state.in_(ACTIVE_TASKS))
        .order_by(tasks.c.id)
        .with_for_update()
    )
    return {row.id: row.attempt for row in rows}


async def keep_frames(connection: AsyncConnection, updates: Sequence[Progress]) -> None:
    """Keep how many frames of each task are done, and that it was heard of."""
    # Two runs of one attempt may be heard at a time: the one that is further counts.
    frames: dict[str, int] = {}
    for item in updates:
        frames[item.task_id] = max(frames.get(item.task_id, 0), item.frames_done)
    if not frames:
        return
    news = values(
        column("task_id", Text), column("frames_done", tasks.c.frames_done.type), name="news"
    ).data(list(frames.items()))
    await connection.execute(
        update(tasks)
        .where(tasks.c.id == news.c.task_id)
        .values(
            frames_done=func.greatest(tasks.c.frames_done, news.c.frames_done), seen_at=func.now()
        )
    )


async def set_progress(connection: AsyncConnection, export_id: str, phase: str) -> None:
    """Bring the progress of an export up to that of its tasks; it never goes back."""
    done = (
        select(
            func.coalesce(
                func.sum(func.least(tasks.c.frames_done, tasks.c.frames)).cast(Float)
                / func.nullif(func.sum(tasks.c.frames), 0),
                0.0,
            )
        )
        .where(tasks.c.export_id == export_id)
        .scalar_subquery()
    )
    await connection.execute(
        update(exports)
        .where(exports.c.id == export_id, exports.c.state == ExportState.PROCESSING)
        .values(
            # The last percent is the verified and stored file.
            progress=func.greatest(exports.c.progress, 99.0 * done),
            phase=phase,
            updated_at=func.now(),
        )
    )
