"""The history of exports: who has changed which state, when and why.

Triggers write it (migrations/versions/0006_history.py), so that no statement can forget it,
nor a replica of an older version. A transaction says who acts and why; for one that does not,
both stay unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import state_changes
from services.api.store.records import without_nul
from services.common.errors import Reason
from videoexport.v1 import task_pb2

# The most that is told of one export; one of a day has forty thousand.
MOST_CHANGES = 1000
# Of what an encoder says of a failure: enough for its sentence.
MOST_DETAIL = 500


class Cause(StrEnum):
    """Why a state changed, where it is no failure; a failure has its `Reason` instead."""

    CREATED = "CREATED"  # CreateExport
    SENT = "SENT"  # JetStream has stored the task's message
    STARTED = "STARTED"  # an encoder has begun
    DELIVERED_AGAIN = "DELIVERED_AGAIN"  # another run of the same attempt; said by the trigger
    RELEASED = "RELEASED"  # an encoder that goes away has handed it back
    DONE = "DONE"  # the result is stored
    PLANNED = "PLANNED"  # the source is known, and so the tasks that follow
    PLANNED_AGAIN = "PLANNED_AGAIN"  # other tasks replace those that could not go on
    PARTS_DONE = "PARTS_DONE"  # nothing is missing for the assembly
    LOST = "LOST"  # neither a message nor a sign of life
    EXPORT_FAILED = "EXPORT_FAILED"  # together with the task that was given up
    CANCELLED = "CANCELLED"  # CancelExport; DeleteExport leaves no history
    RETRIED = "RETRIED"  # RetryExport
    RETENTION = "RETENTION"  # the time of the output is over


DISPATCHER = "dispatcher"
RECONCILER = "reconciler"


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes states in a transaction, and why.

    Attributes:
        actor: `user:<id>`, `encoder:<id>`, `dispatcher` or `reconciler`.
        reason: a `Cause`, or the `Reason` of a failure.
        detail: one sentence for a person.
        run_id: the run whose word it was.
    """

    actor: str
    reason: str
    detail: str = ""
    run_id: str = ""

    def but(self, reason: str, detail: str = "") -> Change:
        """Return the same by another reason."""
        return replace(self, reason=reason, detail=detail)


def by_user(user_id: str, cause: Cause) -> Change:
    """Return what a caller does."""
    return Change(f"user:{user_id}", cause)


def by_encoder(event: task_pb2.TaskEvent, reason: str, detail: str = "") -> Change:
    """Return what the event of an encoder leads to."""
    return Change(f"encoder:{event.encoder_id}", reason, detail, event.run_id)


def by_failure(event: task_pb2.TaskEvent) -> Change:
    """Return what the failure of a run leads to."""
    # Without a failure in it the event itself could not be applied.
    code = event.failed.code or Reason.INTERNAL
    return by_encoder(event, code, event.failed.message)


async def say(connection: AsyncConnection, change: Change) -> None:
    """Have the changes of state that follow in this transaction told with who and why."""
    said = {
        "actor": change.actor,
        "reason": change.reason,
        "detail": change.detail[:MOST_DETAIL],
        "run_id": change.run_id,
    }
    # Until the end of the transaction, which is what the third argument says.
    settings = [
        func.set_config(f"videoexport.{name}", text, True)
        for name, text in without_nul(said).items()
    ]
    await connection.execute(select(*settings))


@dataclass(frozen=True, slots=True)
class StateChange:
    """One change of state of an export, or of one of its tasks.

    Attributes:
        task_id: None for the export itself, and so are `kind` and `attempt`.
        from_state: None when it was created.
        actor, reason: None when a replica of an older version has made the change.
    """

    changed_at: datetime
    task_id: str | None
    kind: str | None
    from_state: str | None
    to_state: str
    attempt: int | None
    actor: str | None
    reason: str | None
    detail: str | None
    run_id: str | None


FIELDS = tuple(field.name for field in fields(StateChange))


@dataclass(frozen=True, slots=True)
class History:
    """Changes of an export, oldest first.

    Attributes:
        omitted: how many are left out.
    """

    changes: tuple[StateChange, ...]
    omitted: int


async def read_history(connection: AsyncConnection, export_id: str) -> History:
    """Return the newest changes, and before those of tasks all of the export itself."""
    columns = [state_changes.c[name] for name in FIELDS]
    query = (
        select(*columns, state_changes.c.id, func.count().over().label("total"))
        .where(state_changes.c.export_id == export_id)
        .order_by(state_changes.c.task_id.is_(None).desc(), state_changes.c.id.desc())
        .limit(MOST_CHANGES)
    )
    rows = (await connection.execute(query)).all()
    changes = [StateChange(*row[: len(columns)]) for row in sorted(rows, key=lambda row: row.id)]
    return History(tuple(changes), rows[0].total - len(rows) if rows else 0)
