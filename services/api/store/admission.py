"""Whether one more export may be stored: quotas, and calls that were made before."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Select, and_, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, submissions
from services.api.states import ACTIVE_EXPORTS
from services.api.store.records import Quotas, Submission
from services.common.errors import DomainError, QuotaViolation, Reason

IDEMPOTENCY_WINDOW = timedelta(hours=24)
QUOTA_WINDOW = timedelta(hours=1)
# When trying again makes sense where only the end of another export can help.
BUSY_RETRY_AFTER = timedelta(seconds=15)
# Any constant will do: it names the lock of the queue's length.
QUEUE_LOCK = 0x71756575


async def lock_user(connection: AsyncConnection, user_id: str) -> None:
    """Let one transaction at a time add to a user's unfinished exports.

    The user's quotas and request ids are then exact, on any number of replicas.
    """
    await connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:user, 0))"), {"user": user_id}
    )


async def earlier_submission(
    connection: AsyncConnection, user_id: str, submission: Submission
) -> str | None:
    """Return the export that the same call stored, if any; it may be deleted by now.

    Raises:
        DomainError: REQUEST_ID_REUSED.
    """
    if submission.request_id is None:
        return None
    same_id = and_(
        submissions.c.user_id == user_id, submissions.c.request_id == submission.request_id
    )
    row = (
        await connection.execute(
            select(
                submissions.c.export_id,
                submissions.c.body_hash,
                (submissions.c.created_at < func.now() - IDEMPOTENCY_WINDOW).label("expired"),
            ).where(same_id)
        )
    ).one_or_none()
    if row is None:
        return None
    if row.expired:
        await connection.execute(update(submissions).where(same_id).values(request_id=None))
        return None
    if row.body_hash != submission.body_hash:
        raise DomainError(
            Reason.REQUEST_ID_REUSED,
            f"The request id {submission.request_id!r} was used for another request.",
        )
    return str(row.export_id)


async def check_quotas(
    connection: AsyncConnection, user_id: str, quotas: Quotas, *, count_hour: bool
) -> None:
    """Refuse one more unfinished export where a limit is reached.

    The user's are exact. That of the queue spares what is in vain: many may pass it at the
    same time, and `keep_within_queue` has the last word.

    Args:
        count_hour: whether it is a new one, which the hourly quota counts.

    Raises:
        DomainError: HOURLY_QUOTA, RUNNING_QUOTA, QUEUE_FULL.
    """
    if count_hour and quotas.exports_per_hour:
        await _check_hour(connection, user_id, quotas.exports_per_hour)
    if quotas.running_per_user:
        of_user = _count_active().where(exports.c.user_id == user_id)
        mine = (await connection.execute(of_user)).scalar_one()
        if mine >= quotas.running_per_user:
            raise DomainError(
                Reason.RUNNING_QUOTA,
                f"You have {mine} unfinished exports; the limit is {quotas.running_per_user}.",
                quota=QuotaViolation(f"user:{user_id}", "unfinished exports at the same time"),
                retry_after=BUSY_RETRY_AFTER,
            )
    await _check_queue(connection, quotas)


async def keep_within_queue(connection: AsyncConnection, quotas: Quotas) -> None:
    """Take the new export back where the queue is over its limit; the last before the commit.

    One transaction at a time may count the exports of all and add to them. Whatever comes
    between this and the commit, all other users would wait for.

    Raises:
        DomainError: QUEUE_FULL.
    """
    if quotas.queue_limit:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": QUEUE_LOCK})
        await _check_queue(connection, quotas, stored=1)


async def _check_queue(connection: AsyncConnection, quotas: Quotas, *, stored: int = 0) -> None:
    """Refuse where the queue is full.

    Args:
        stored: how many of the exports are the caller's new one.
    """
    if not quotas.queue_limit:
        return
    everyone = (await connection.execute(_count_active())).scalar_one() - stored
    if everyone >= quotas.queue_limit:
        raise DomainError(
            Reason.QUEUE_FULL,
            f"The queue is full ({everyone} unfinished exports); try again later.",
            quota=QuotaViolation("cluster", "unfinished exports of all users"),
            retry_after=BUSY_RETRY_AFTER,
        )


def _count_active() -> Select[int]:
    return select(func.count()).select_from(exports).where(exports.c.state.in_(ACTIVE_EXPORTS))


async def _check_hour(connection: AsyncConnection, user_id: str, limit: int) -> None:
    # The limit-th newest submission: once it is an hour old there is room again.
    query = (
        select(submissions.c.created_at + QUOTA_WINDOW - func.now())
        .where(
            submissions.c.user_id == user_id,
            submissions.c.created_at > func.now() - QUOTA_WINDOW,
        )
        .order_by(submissions.c.created_at.desc())
        .offset(limit - 1)
        .limit(1)
    )
    wait = (await connection.execute(query)).scalar_one_or_none()
    if wait is not None:
        minutes = max(1, round(wait.total_seconds() / 60))
        raise DomainError(
            Reason.HOURLY_QUOTA,
            f"You have used up your {limit} exports of this hour; try again in {minutes} min.",
            quota=QuotaViolation(f"user:{user_id}", "exports created in an hour"),
            retry_after=wait,
        )
