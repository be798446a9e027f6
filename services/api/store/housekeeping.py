"""What the reconciler looks after; safe to run on every replica at once.

Rows are taken with SKIP LOCKED, and every action may be done twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, select, update

from services.api.models import exports, object_deletions, probes, submissions, tasks
from services.api.states import (
    ACTIVE_EXPORTS,
    ACTIVE_TASKS,
    IN_FLIGHT_TASKS,
    UNDECIDED_TASKS,
    ExportState,
    TaskState,
    export_sources,
)
from services.api.store.announcements import ENDED, announce_later, lock_oldest, remove
from services.api.store.database import Database
from services.api.store.exports import select_exports
from services.api.store.garbage import discard, output_of
from services.api.store.history import RECONCILER, Cause, Change
from services.api.store.queue_wait import GivenUp, Overdue, find_overdue, give_up_overdue
from services.api.store.records import ExportRecord, Planned, TaskRecord, from_json
from services.api.store.work import plan_again
from services.common.errors import DomainError, Reason
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

BATCH = 100
SUBMISSION_AGE = timedelta(days=1)
PROBE_AGE = timedelta(days=90)
DELETION_BACKOFF = timedelta(seconds=15)
DELETION_BACKOFF_LIMIT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Deletion:
    """An object to delete, on behalf of its owner."""

    id: int
    user_id: str
    object: storage.ObjectRef


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How much work waits in a lane, and since when."""

    lane: Lane
    state: TaskState
    count: int
    oldest: datetime | None


class Housekeeping:
    """The reconciler's transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def announce(self, publish: Callable[[task_pb2.ExportEnded], Awaitable[None]]) -> int:
        """Publish ends that are not published yet; return how many.

        Each is forgotten after JetStream has stored it, so it is sent at least once.
        """
        count = 0
        while count < BATCH and await self._announce_one(publish):
            count += 1
        return count

    async def _announce_one(
        self, publish: Callable[[task_pb2.ExportEnded], Awaitable[None]]
    ) -> bool:
        async with self._database.transaction() as connection:
            found = await lock_oldest(connection)
            if found is None:
                return False
            announcement, message = found
            await publish(message)
            await remove(connection, announcement)
        return True

    async def expire(self) -> list[str]:
        """Expire outputs whose time has come; return the exports."""
        due: Select[Any] = (
            select(exports.c.id, exports.c.user_id, exports.c.output_run_id)
            .where(exports.c.state == ExportState.COMPLETED, exports.c.expires_at <= func.now())
            .order_by(exports.c.expires_at)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        change = Change(RECONCILER, Cause.RETENTION)
        async with self._database.transaction(change) as connection:
            rows = (await connection.execute(due)).all()
            ids = [str(row.id) for row in rows]
            if ids:
                expired = await connection.execute(
                    update(exports)
                    .where(
                        exports.c.id.in_(ids),
                        exports.c.state.in_(export_sources(ExportState.EXPIRED)),
                    )
                    .values(state=ExportState.EXPIRED, updated_at=func.now())
                    .returning(*ENDED)
                )
                await announce_later(connection, list(expired))
                await discard(
                    connection,
                    [(row.user_id, output_of(row.id, row.output_run_id)) for row in rows],
                )
        return ids

    async def delete_objects(
        self,
        remove: Callable[[Sequence[Deletion]], Awaitable[None]],
        *,
        backoff: timedelta = DELETION_BACKOFF,
    ) -> int:
        """Delete objects that are due; return how many. Where it fails, try later.

        Claiming puts a row off by its next pause, so that nothing is locked
        meanwhile, and what fails or is cut short is already due again later.

        Args:
            remove: deletes objects of one user.
            backoff: the first pause of a row, then doubled; longer than `remove`
                takes, or another replica would do the same meanwhile.

        Raises:
            DomainError: some could not be deleted; while storage is away, the
                rest was not tried.
        """
        claimed = await self._claim_deletions(backoff)
        failure: DomainError | None = None
        count = 0
        for _, group in groupby(claimed, key=lambda item: item.user_id):
            deletions = list(group)
            try:
                await remove(deletions)
            except DomainError as error:
                failure = error
                # The next user's call would wait in vain as well, and every row is put off.
                if error.reason is Reason.STORAGE_UNAVAILABLE:
                    break
            else:
                await self._deleted(deletions)
                count += len(deletions)
        if failure is not None:
            raise failure
        return count

    async def _claim_deletions(self, backoff: timedelta) -> list[Deletion]:
        """Return due deletions by user, each put off by its next pause."""
        due = (
            select(object_deletions.c.id)
            .where(object_deletions.c.not_before <= func.now())
            .order_by(object_deletions.c.not_before)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        pause = func.least(
            DELETION_BACKOFF_LIMIT,
            # Bounded, or the power outgrows an interval after two days.
            backoff * func.power(2, func.least(object_deletions.c.attempts, 16)),
        )
        claim = (
            update(object_deletions)
            .where(object_deletions.c.id.in_(due.scalar_subquery()))
            .values(attempts=object_deletions.c.attempts + 1, not_before=func.now() + pause)
            .returning(object_deletions.c.id, object_deletions.c.user_id, object_deletions.c.object)
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(claim)).mappings().all()
        found = [
            Deletion(row["id"], row["user_id"], from_json(row["object"], storage.ObjectRef()))
            for row in rows
        ]
        return sorted(found, key=lambda item: (item.user_id, item.id))

    async def _deleted(self, deletions: Sequence[Deletion]) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                delete(object_deletions).where(
                    object_deletions.c.id.in_([item.id for item in deletions])
                )
            )

    async def silent_tasks(self, lane: Lane, silence: timedelta) -> list[TaskRecord]:
        """Return tasks in flight that nothing was heard of for so long."""
        query = (
            select(tasks)
            .where(
                tasks.c.lane == lane,
                tasks.c.state.in_(IN_FLIGHT_TASKS),
                tasks.c.seen_at < func.now() - silence,
            )
            .order_by(tasks.c.seen_at)
            .limit(BATCH)
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [TaskRecord.from_row(row) for row in rows]

    async def requeue(self, task: TaskRecord, silence: timedelta) -> bool:
        """Make a lost task due again; return False when it was heard of meanwhile."""
        change = Change(RECONCILER, Cause.LOST)
        async with self._database.transaction(change) as connection:
            result = await connection.execute(
                update(tasks)
                .where(
                    tasks.c.id == task.id,
                    tasks.c.attempt == task.attempt,
                    tasks.c.state.in_(IN_FLIGHT_TASKS),
                    tasks.c.seen_at < func.now() - silence,
                )
                .values(state=TaskState.PENDING, not_before=func.now())
                .returning(tasks.c.id)
            )
            return result.one_or_none() is not None

    async def idle_exports(self, lane: Lane, silence: timedelta) -> list[ExportRecord]:
        """Return the exports with work in a lane that nobody does.

        Args:
            silence: how long nothing was heard of a run that counts as lost.
        """
        query = (
            select_exports()
            .where(exports.c.state.in_(ACTIVE_EXPORTS), _idle(lane, silence))
            .order_by(exports.c.created_at)
            .limit(BATCH)
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [ExportRecord.from_row(row) for row in rows]

    async def leave_lane(
        self, lane: Lane, silence: timedelta, export_id: str, planned: Planned
    ) -> list[str] | None:
        """Give an export other tasks; return those of the former that may be running.

        None when it is being worked on again, or has ended.
        """
        query = (
            select_exports()
            .where(exports.c.id == export_id, exports.c.state.in_(ACTIVE_EXPORTS))
            .with_for_update(of=exports)
        )
        still = select(exports.c.id).where(exports.c.id == export_id, _idle(lane, silence))
        change = Change(RECONCILER, Cause.PLANNED_AGAIN, f"Nobody works in lane {lane}.")
        async with self._database.transaction(change) as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
            if row is None or (await connection.execute(still)).one_or_none() is None:
                return None
            record = ExportRecord.from_row(row)
            return await plan_again(connection, record, planned, generation=record.generation)

    async def overdue(self, wait: timedelta, *, finished: bool = False) -> list[Overdue]:
        """Return exports that wait for encoders, and of which nothing was heard for so long.

        Args:
            finished: only those whose file is there, and still to be compared with its source.
        """
        async with self._database.transaction() as connection:
            return await find_overdue(connection, wait, limit=BATCH, finished=finished)

    async def give_up(
        self, export_id: str, wait: timedelta, error: pb.ExportError
    ) -> GivenUp | None:
        """End an export that has waited too long: with an error, or with its file if there is one.

        Returns:
            None when it is worked on by now, or has ended.
        """
        change = Change(RECONCILER, error.code, error.message)
        async with self._database.transaction(change) as connection:
            return await give_up_overdue(connection, export_id, wait, error)

    async def forget_old(self) -> None:
        """Remove submissions and probes that nothing asks for any more."""
        async with self._database.transaction() as connection:
            await connection.execute(
                delete(submissions).where(submissions.c.created_at < func.now() - SUBMISSION_AGE)
            )
            # An export that goes on may have to be planned again.
            needed = exists().where(
                exports.c.state.in_(ACTIVE_EXPORTS), exports.c.source_etag == probes.c.etag
            )
            await connection.execute(
                delete(probes).where(probes.c.created_at < func.now() - PROBE_AGE, ~needed)
            )

    async def queue_depths(self) -> list[QueueDepth]:
        """Return how many tasks are not decided, by lane and state."""
        query = (
            select(
                tasks.c.lane,
                tasks.c.state,
                func.count().label("waiting"),
                func.min(tasks.c.not_before).label("oldest"),
            )
            .where(tasks.c.state.in_(UNDECIDED_TASKS))
            .group_by(tasks.c.lane, tasks.c.state)
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        return [
            QueueDepth(Lane(row.lane), TaskState(row.state), row.waiting, row.oldest)
            for row in rows
        ]

    async def active_exports(self) -> list[tuple[str, int]]:
        """Return the number of unfinished exports by state."""
        query = (
            select(exports.c.state, func.count())
            .where(exports.c.state.in_(ACTIVE_EXPORTS))
            .group_by(exports.c.state)
        )
        async with self._database.transaction() as connection:
            return [(str(row[0]), int(row[1])) for row in (await connection.execute(query)).all()]


def _idle(lane: Lane, silence: timedelta) -> ColumnElement[bool]:
    """Whether an export has work in a lane, and nobody was heard of who does it."""
    waits = exists().where(
        tasks.c.export_id == exports.c.id, tasks.c.lane == lane, tasks.c.state.in_(ACTIVE_TASKS)
    )
    done = exists().where(
        tasks.c.export_id == exports.c.id,
        tasks.c.state == TaskState.RUNNING,
        tasks.c.seen_at >= func.now() - silence,
    )
    return and_(waits, ~done)
