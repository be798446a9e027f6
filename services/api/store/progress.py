"""How far runs are, as it is kept in the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Float,
    Select,
    Text,
    any_,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, tasks
from services.api.states import ACTIVE_EXPORTS, UNDECIDED_TASKS, ExportState, TaskState
from services.api.store.work import PARTS, PICTURES


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest word on a run."""

    task_id: str
    export_id: str
    run_id: str
    attempt: int
    phase: str
    frames_done: int


async def lock_exports(
    connection: AsyncConnection, updates: Sequence[Progress]
) -> Sequence[Progress]:
    """Lock exports; return the updates but those of exports that somebody else has locked.

    An event or a caller is at those, and the next word of the run comes within seconds. To
    wait for one of them would be to let the events of all the others wait.
    """
    wanted = exports.c.id == any_(_texts({item.export_id for item in updates}))
    lock = select(exports.c.id).where(wanted).order_by(exports.c.id)
    locked = set((await connection.execute(lock.with_for_update(skip_locked=True))).scalars())
    if all(item.export_id in locked for item in updates):
        return updates
    # One that is gone is not skipped: its runs are to stop.
    there = set((await connection.execute(select(exports.c.id).where(wanted))).scalars())
    return [item for item in updates if item.export_id not in there - locked]


async def lock_running(connection: AsyncConnection, updates: Sequence[Progress]) -> dict[str, int]:
    """Lock the tasks of locked exports; return the attempts of those that are not decided."""
    rows = await connection.execute(
        select(tasks.c.id, tasks.c.attempt)
        .where(
            tasks.c.id == any_(_texts({item.task_id for item in updates})),
            tasks.c.state.in_(UNDECIDED_TASKS),
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
    news = select(
        func.unnest(_texts(frames)).label("task_id"),
        func.unnest(literal([*frames.values()], ARRAY(BigInteger))).label("frames_done"),
    ).subquery("news")
    await connection.execute(
        update(tasks)
        .where(tasks.c.id == news.c.task_id)
        .values(
            frames_done=func.greatest(tasks.c.frames_done, news.c.frames_done), seen_at=func.now()
        )
    )


async def set_progress(connection: AsyncConnection, export_id: str, phase: str) -> int | None:
    """Bring the progress of a locked export up to that of its tasks; it never goes back.

    Returns:
        How many of its parts are still to be made; None where it has ended.
    """
    unmade = func.count().filter(tasks.c.kind.in_(PARTS), tasks.c.state != TaskState.SUCCEEDED)
    sums = _sums([export_id]).add_columns(unmade.label("unmade")).subquery()
    moved = await connection.execute(
        update(exports)
        .where(exports.c.id == sums.c.export_id, exports.c.state.in_(ACTIVE_EXPORTS))
        .values(
            _progress(sums.c, literal(phase))
            | {
                "state": ExportState.PROCESSING,
                "started_at": func.coalesce(exports.c.started_at, func.now()),
            }
        )
        .returning(sums.c.unmade)
    )
    left: int | None = moved.scalar_one_or_none()
    return left


async def sum_up(connection: AsyncConnection, phases: Mapping[str, str]) -> None:
    """Bring the progress of many exports up to that of their tasks.

    The sums of thousands of tasks take long, so nothing is locked before they are there; an
    export that somebody has locked then is passed over.

    Args:
        phases: what is being done for each export, by its id.
    """
    sums = (await connection.execute(_sums(phases))).all()
    wanted = select(exports.c.id).where(exports.c.id == any_(_texts(phases)))
    lock = wanted.order_by(exports.c.id).with_for_update(skip_locked=True)
    locked = set((await connection.execute(lock)).scalars())
    rows = [row for row in sums if row.export_id in locked]
    if not rows:
        return
    news = select(
        func.unnest(_texts(row.export_id for row in rows)).label("export_id"),
        func.unnest(_texts(phases[row.export_id] for row in rows)).label("phase"),
        func.unnest(literal([row.share for row in rows], ARRAY(Float))).label("share"),
        func.unnest(literal([row.pictures for row in rows], ARRAY(BigInteger))).label("pictures"),
    ).subquery("news")
    await connection.execute(
        update(exports)
        .where(exports.c.id == news.c.export_id, exports.c.state == ExportState.PROCESSING)
        .values(_progress(news.c, news.c.phase))
    )


def _sums(export_ids: Iterable[str]) -> Select[tuple[str, float, int]]:
    """Return the query for what is done of exports: of all work as a share, and in pictures."""
    done = func.least(tasks.c.frames_done, tasks.c.frames)
    share = func.sum(done).cast(Float) / func.nullif(func.sum(tasks.c.frames), 0)
    pictures = func.sum(done).filter(tasks.c.kind.in_(PICTURES))
    return (
        select(
            tasks.c.export_id,
            func.coalesce(share, 0.0).label("share"),
            func.coalesce(pictures, 0).cast(BigInteger).label("pictures"),
        )
        # What earlier exports have made is no work of this one.
        .where(tasks.c.export_id == any_(_texts(export_ids)), ~tasks.c.reused)
        .group_by(tasks.c.export_id)
    )


def _progress(sums: Any, phase: ColumnElement[str]) -> dict[str, Any]:
    return {
        # The last percent is the verified and stored file.
        "progress": func.greatest(exports.c.progress, 99.0 * sums.share),
        "frames_encoded": func.greatest(exports.c.frames_encoded, sums.pictures),
        "phase": phase,
        "updated_at": func.now(),
    }


def _texts(items: Iterable[str]) -> BindParameter[Sequence[str]]:
    """Return texts as one parameter.

    VALUES are compiled anew each time, which takes milliseconds; and with IN, every number of
    texts is a statement of its own to Postgres, to be planned anew.
    """
    return literal(list(items), ARRAY(Text))
