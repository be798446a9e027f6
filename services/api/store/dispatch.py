"""Which tasks are sent out next: fair between users, and no more than there is room for."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import exists, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, tasks
from services.api.states import ACTIVE_EXPORTS, IN_FLIGHT_TASKS, TaskState
from services.api.store.records import TaskRecord
from services.common.subjects import Lane


async def lanes_with_room(connection: AsyncConnection, windows: Mapping[Lane, int]) -> list[Lane]:
    """Return the lanes in which a task is due and fewer than their window are in flight."""
    in_flight = [
        select(func.count())
        .select_from(tasks)
        .where(tasks.c.lane == lane, tasks.c.state.in_(IN_FLIGHT_TASKS))
        .scalar_subquery()
        for lane in windows
    ]
    due = [
        exists().where(
            tasks.c.lane == lane,
            tasks.c.state == TaskState.PENDING,
            tasks.c.not_before <= func.now(),
        )
        for lane in windows
    ]
    row = (await connection.execute(select(*in_flight, *due))).one()
    return [
        lane
        for (lane, window), running, waits in zip(
            windows.items(), row[: len(windows)], row[len(windows) :], strict=True
        )
        if waits and running < window
    ]


async def count_in_flight(connection: AsyncConnection, lane: Lane) -> int:
    """Return how many tasks of a lane are sent out and not decided."""
    count: int = (
        await connection.execute(
            select(func.count())
            .select_from(tasks)
            .where(tasks.c.lane == lane, tasks.c.state.in_(IN_FLIGHT_TASKS))
        )
    ).scalar_one()
    return count


async def lock_due(connection: AsyncConnection, lane: Lane, limit: int) -> list[TaskRecord]:
    """Return the tasks of a lane that are next, in their order, locked."""
    in_flight = (
        select(tasks.c.user_id, func.count().label("running"))
        .where(tasks.c.lane == lane, tasks.c.state.in_(IN_FLIGHT_TASKS))
        .group_by(tasks.c.user_id)
        .subquery()
    )
    users = (
        select(exports.c.user_id).where(exports.c.state.in_(ACTIVE_EXPORTS)).distinct().subquery()
    )
    order = (tasks.c.priority.desc(), tasks.c.created_at, tasks.c.frames.desc(), tasks.c.id)
    # Of each user no more than there is room for: a long export has thousands that wait.
    own = (
        select(tasks.c.id, tasks.c.created_at, func.row_number().over(order_by=order).label("turn"))
        .where(
            tasks.c.lane == lane,
            tasks.c.state == TaskState.PENDING,
            tasks.c.user_id == users.c.user_id,
            tasks.c.not_before <= func.now(),
        )
        .order_by(*order)
        .limit(limit)
        .lateral()
    )
    served = (
        select(func.max(tasks.c.ended_at).label("at"))
        .where(tasks.c.lane == lane, tasks.c.user_id == users.c.user_id)
        .lateral()
    )
    # By the export's age alone a long one would keep the slots from whoever comes later, where
    # there are fewer of them than users.
    since = func.greatest(own.c.created_at, served.c.at).label("since")
    # The n-th waiting task of a user with m in flight ranks as m + n.
    rank = (func.coalesce(in_flight.c.running, 0) + own.c.turn).label("rank")
    first = (
        select(own.c.id, since, own.c.turn, rank)
        .select_from(users.join(own, true()).join(served, true()))
        .outerjoin(in_flight, in_flight.c.user_id == users.c.user_id)
        .order_by(rank, since, own.c.turn)
        .limit(limit)
        .subquery()
    )
    rows = await connection.execute(
        select(tasks)
        .join(first, first.c.id == tasks.c.id)
        .where(tasks.c.state == TaskState.PENDING)
        # The order of publishing is the order in which encoders take them.
        .order_by(first.c.rank, first.c.since, first.c.turn)
        .with_for_update(of=tasks, skip_locked=True)
    )
    return [TaskRecord.from_row(row) for row in rows.mappings()]
