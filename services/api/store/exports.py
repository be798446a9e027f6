"""Exports as callers see them: create, read, list, cancel, retry, delete."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, submissions
from services.api.states import ACTIVE_EXPORTS, ExportState, export_sources
from services.api.store.admission import (
    check_quotas,
    earlier_submission,
    keep_within_queue,
    lock_user,
)
from services.api.store.announcements import ENDED, announce_later
from services.api.store.database import Database
from services.api.store.garbage import discard_run_objects
from services.api.store.history import Cause, History, by_user, read_history
from services.api.store.records import (
    ExportRecord,
    ListFilter,
    NewExport,
    NewTask,
    Quotas,
    Submission,
    to_json,
)
from services.api.store.work import begin_again, end_tasks, insert_work
from services.common.errors import DomainError, Reason


@cache
def select_exports() -> Select[Any]:
    """Return the query for whole records, to be narrowed by the caller.

    Built once: building it took a twelfth of CreateExport's time.
    """
    return select(exports)


@cache
def _select_summaries() -> Select[Any]:
    """Return the query for records without what grows with the number of segments.

    A page of a thousand exports of a thousand segments would be half a gigabyte.
    """
    whole = [column for column in exports.c if column.name not in ("segments", "plan", "error")]
    return select(
        *whole,
        literal([], JSONB).label("segments"),
        without(exports.c.plan, "segments", "metadata"),
        without(exports.c.error, "violations"),
    )


def without(column: Column[Any], *keys: str) -> ColumnElement[Any]:
    """Return a JSONB column less some keys of its object."""
    is_object = func.jsonb_typeof(column) == "object"
    left: ColumnElement[Any] = column
    for key in keys:
        left = left.op("-")(key)
    return case((is_object, left)).cast(JSONB).label(column.name)


class ExportStore:
    """What callers do with exports; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, new: NewExport, work: Sequence[NewTask], submission: Submission, quotas: Quotas
    ) -> ExportRecord:
        """Store an export with its tasks, or return the one that the same call stored.

        Raises:
            DomainError: REQUEST_ID_REUSED, HOURLY_QUOTA, RUNNING_QUOTA, QUEUE_FULL.
        """
        change = by_user(new.user_id, Cause.CREATED)
        async with self._database.transaction(change) as connection:
            await lock_user(connection, new.user_id)
            earlier = await _earlier(connection, new.user_id, submission)
            if earlier is not None:
                return earlier
            await check_quotas(connection, new.user_id, quotas, count_hour=True)
            await connection.execute(insert(exports).values(_export_values(new)))
            await connection.execute(
                insert(submissions).values(
                    user_id=new.user_id,
                    export_id=new.id,
                    request_id=submission.request_id,
                    body_hash=submission.body_hash,
                )
            )
            await insert_work(connection, new.id, new.user_id, new.priority, work)
            record = await _get(connection, new.id, new.user_id)
            await keep_within_queue(connection, quotas)
            return record

    async def earlier(self, user_id: str, submission: Submission) -> ExportRecord | None:
        """Return the export that the same call stored within 24 hours, if any.

        Raises:
            DomainError: REQUEST_ID_REUSED.
        """
        async with self._database.transaction() as connection:
            return await _earlier(connection, user_id, submission)

    async def get(self, export_id: str, user_id: str) -> ExportRecord:
        """Return one export of the user.

        Raises:
            DomainError: EXPORT_NOT_FOUND, also for another user's export.
        """
        async with self._database.transaction() as connection:
            return await _get(connection, export_id, user_id)

    async def history(self, export_id: str, user_id: str) -> History:
        """Return what has happened to an export of the user, oldest first.

        At most `MOST_CHANGES`: the newest, and of the export itself before those of its tasks.

        Raises:
            DomainError: EXPORT_NOT_FOUND, also for another user's export.
        """
        async with self._database.transaction() as connection:
            await _get(connection, export_id, user_id)
            return await read_history(connection, export_id)

    async def page(
        self, where: ListFilter, *, limit: int, before: tuple[datetime, str] | None
    ) -> tuple[Sequence[ExportRecord], int]:
        """Return a page, newest first, and the number of exports on all pages.

        Left out are segments, requested and planned ones, and violations.

        Args:
            before: creation time and id of the last export of the previous page.
        """
        conditions = _conditions(where)
        page = _select_summaries().where(*conditions)
        if before is not None:
            page = page.where(tuple_(exports.c.created_at, exports.c.id) < before)
        page = page.order_by(exports.c.created_at.desc(), exports.c.id.desc()).limit(limit)
        total = select(func.count()).select_from(exports).where(*conditions)
        async with self._database.transaction() as connection:
            rows = (await connection.execute(page)).mappings().all()
            count = (await connection.execute(total)).scalar_one()
        return [ExportRecord.from_row(row) for row in rows], count

    async def cancel(self, export_id: str, user_id: str) -> tuple[ExportRecord, list[str]]:
        """Cancel an export; return it with the tasks that may be running.

        Raises:
            DomainError: EXPORT_NOT_FOUND; EXPORT_ENDED when it ended otherwise.
        """
        change = by_user(user_id, Cause.CANCELLED)
        async with self._database.transaction(change) as connection:
            record = await _get(connection, export_id, user_id, lock=True)
            if record.state is ExportState.CANCELLED:
                return record, []
            if record.state not in export_sources(ExportState.CANCELLED):
                raise DomainError(
                    Reason.EXPORT_ENDED, f"The export is already {record.state.lower()}."
                )
            await end_export(connection, export_id, ExportState.CANCELLED)
            stopped = await end_tasks(connection, export_id)
            await discard_run_objects(connection, export_id, keep_run_id=None)
            return await _get(connection, export_id, user_id), stopped

    async def retry(self, export_id: str, user_id: str, quotas: Quotas) -> ExportRecord:
        """Queue a failed export again: its unfinished tasks start over, finished ones stay.

        Raises:
            DomainError: EXPORT_NOT_FOUND, EXPORT_ENDED, NOT_RETRYABLE, RUNNING_QUOTA, QUEUE_FULL.
        """
        change = by_user(user_id, Cause.RETRIED)
        async with self._database.transaction(change) as connection:
            await lock_user(connection, user_id)
            record = await _get(connection, export_id, user_id, lock=True)
            if record.state in ACTIVE_EXPORTS:
                return record
            if record.state is not ExportState.FAILED:
                raise DomainError(
                    Reason.EXPORT_ENDED,
                    f"Only a failed export can be tried again; this one is {record.state.lower()}.",
                )
            if record.error is None or not record.error.retryable:
                raise DomainError(
                    Reason.NOT_RETRYABLE,
                    "Trying again cannot succeed; the error says why.",
                )
            await check_quotas(connection, user_id, quotas, count_hour=False)
            await _queue_again(connection, export_id)
            record = await _get(connection, export_id, user_id)
            await keep_within_queue(connection, quotas)
            return record

    async def delete(self, export_id: str, user_id: str) -> list[str]:
        """Remove an export and all that it has made; return tasks that may be running.

        Raises:
            DomainError: EXPORT_NOT_FOUND.
        """
        async with self._database.transaction() as connection:
            await _get(connection, export_id, user_id, lock=True)
            # One that goes on ends with this, which others are to hear of.
            await end_export(connection, export_id, ExportState.CANCELLED)
            running = await end_tasks(connection, export_id)
            await discard_run_objects(connection, export_id, keep_run_id=None)
            await connection.execute(delete(exports).where(exports.c.id == export_id))
            # The hourly quota still counts it, but its request id is free again.
            await connection.execute(
                update(submissions)
                .where(submissions.c.export_id == export_id)
                .values(request_id=None)
            )
            return running


def _export_values(new: NewExport) -> dict[str, Any]:
    return {
        "id": new.id,
        "user_id": new.user_id,
        "state": ExportState.QUEUED,
        "phase": "WAITING",
        "priority": new.priority,
        "source": to_json(new.source),
        "video_id": new.source.video_id or None,
        "source_etag": new.source_etag,
        "source_size_bytes": new.source_size_bytes,
        "segments": [to_json(segment) for segment in new.segments],
        "settings": to_json(new.settings),
        "plan": to_json(new.plan) if new.plan is not None else None,
        "fingerprint": new.fingerprint,
        "warnings": [to_json(warning) for warning in new.warnings],
    }


def _conditions(where: ListFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [exports.c.user_id == where.user_id]
    if where.video_id is not None:
        conditions.append(exports.c.video_id == where.video_id)
    if where.states:
        conditions.append(exports.c.state.in_(where.states))
    if where.created_after is not None:
        conditions.append(exports.c.created_at >= where.created_after)
    if where.created_before is not None:
        conditions.append(exports.c.created_at < where.created_before)
    return conditions


async def _get(
    connection: AsyncConnection, export_id: str, user_id: str, *, lock: bool = False
) -> ExportRecord:
    record = await _find(connection, export_id, user_id, lock=lock)
    if record is None:
        raise DomainError(Reason.EXPORT_NOT_FOUND, f"There is no export {export_id}.")
    return record


async def _find(
    connection: AsyncConnection, export_id: str, user_id: str, *, lock: bool = False
) -> ExportRecord | None:
    query = select_exports().where(exports.c.id == export_id, exports.c.user_id == user_id)
    if lock:
        query = query.with_for_update(of=exports)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else ExportRecord.from_row(row)


async def _earlier(
    connection: AsyncConnection, user_id: str, submission: Submission
) -> ExportRecord | None:
    """Return the export of the same call; one deleted between the two queries counts as none."""
    export_id = await earlier_submission(connection, user_id, submission)
    return None if export_id is None else await _find(connection, export_id, user_id)


async def _queue_again(connection: AsyncConnection, export_id: str) -> None:
    await connection.execute(
        update(exports)
        .where(
            exports.c.id == export_id,
            exports.c.state.in_(export_sources(ExportState.QUEUED)),
        )
        .values(
            state=ExportState.QUEUED,
            phase="WAITING",
            error=None,
            ended_at=None,
            # Or one that was planned again too often would fail at once the same way.
            replans=0,
            updated_at=func.now(),
        )
    )
    await begin_again(connection, export_id)


async def end_export(
    connection: AsyncConnection, export_id: str, state: ExportState, **values: Any
) -> bool:
    """Move an export to a terminal state; return False where that way is not open.

    Only a completed one keeps an output: another may have had one that was still measured.
    """
    if state is not ExportState.COMPLETED:
        values |= {"output": None, "output_run_id": None, "expires_at": None}
    result = await connection.execute(
        update(exports)
        .where(exports.c.id == export_id, exports.c.state.in_(export_sources(state)))
        .values(
            state=state,
            phase="UNSPECIFIED",
            ended_at=func.now(),
            updated_at=func.now(),
            **values,
        )
        .returning(*ENDED)
    )
    ended = list(result)
    await announce_later(connection, ended)
    return bool(ended)
