"""How far runs are, as it is kept in the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, Text, column, func, select, update, values
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, tasks
from services.api.states import UNDECIDED_TASKS, ExportState
from services.api.store.work import PICTURES


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
        .where(
            tasks.c.id.in_({item.task_id for item in updates}), tasks.c.state.in_(UNDECIDED_TASKS)
        )
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


async def set_progress(
    connection: AsyncConnection, export_id: str, phase: str | None = None
) -> None:
    """Bring the progress of an export up to that of its tasks; it never goes back.

    Args:
        phase: what is being done for it, where that is known.
    """
    done = func.least(tasks.c.frames_done, tasks.c.frames)
    sums = (
        select(
            tasks.c.export_id,
            func.coalesce(
                func.sum(done).cast(Float) / func.nullif(func.sum(tasks.c.frames), 0), 0.0
            ).label("share"),
            func.coalesce(func.sum(done).filter(tasks.c.kind.in_(PICTURES)), 0).label("pictures"),
        )
        # What earlier exports have made is no work of this one.
        .where(tasks.c.export_id == export_id, ~tasks.c.reused)
        .group_by(tasks.c.export_id)
        .subquery()
    )
    # The last percent is the verified and stored file.
    news: dict[str, Any] = {
        "progress": func.greatest(exports.c.progress, 99.0 * sums.c.share),
        "frames_encoded": func.greatest(exports.c.frames_encoded, sums.c.pictures),
        "updated_at": func.now(),
    }
    if phase is not None:
        news["phase"] = phase
    await connection.execute(
        update(exports)
        .where(exports.c.id == sums.c.export_id, exports.c.state == ExportState.PROCESSING)
        .values(news)
    )
