"""What a forecast needs to know of the work that is left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, func, select

from services.api.models import encode_speeds, exports, tasks
from services.api.states import ACTIVE_EXPORTS, IN_FLIGHT_TASKS, ExportState, TaskState
from services.api.store.database import Database
from services.api.store.exports import without
from services.common.families import FAMILY_OF_LANE
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb

SpeedKind = tuple[pb.EncoderFamily.ValueType, pb.Resolution.ValueType, pb.Quality.ValueType]


@dataclass(frozen=True, slots=True)
class Speed:
    """What a slot takes for a task: so many frames a second, and seconds beside them."""

    frames_per_second: float
    overhead_seconds: float


@dataclass(frozen=True, slots=True)
class InFlightTask:
    """A task that was sent.

    Attributes:
        running: whether an encoder has begun it.
        frames: its work, in frames of a video encode.
        frames_done: of these, as last written.
        sent_at: seconds since 1970.
    """

    id: str
    kind: str
    running: bool
    frames: int
    frames_done: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What a forecast needs to know of a plan; a `Plan` of each would take twice the time."""

    resolution: pb.Resolution.ValueType
    quality: pb.Quality.ValueType
    width: int
    height: int
    frame_count: int
    chunk_count: int


@dataclass(frozen=True, slots=True)
class UnfinishedExport:
    """What is left of an export.

    Attributes:
        lane: of its tasks; None where it has none that is due or sent.
        served_at: when a task of its user in this lane ended last, in seconds since 1970; None
            where none did.
        in_flight: its tasks that were sent, first sent first.
        due: its tasks that were not sent and wait for nothing.
        frames: their work.
        longest: the most work of one of them.
        assembly_due: whether one of them is the assembly.
        plan: None while there is none.
    """

    id: str
    user_id: str
    state: ExportState
    priority: int
    progress: float
    created_at: datetime
    lane: Lane | None
    served_at: float | None
    in_flight: tuple[InFlightTask, ...]
    due: int
    frames: int
    longest: int
    assembly_due: bool
    plan: PlanSummary | None


class BacklogStore:
    """Reads all work that is left; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> tuple[list[UnfinishedExport], dict[SpeedKind, Speed]]:
        """Return the unfinished exports, and the measured speeds of a slot.

        Raises:
            DomainError: STORE_UNAVAILABLE.
        """
        async with self._database.transaction() as connection:
            # One statement, so that no task is seen twice or not at all on its way.
            rows = (await connection.execute(_UNFINISHED)).mappings().all()
            speeds = (await connection.execute(_SPEEDS)).all()
        return (
            [_unfinished(row) for row in rows],
            {
                (
                    pb.EncoderFamily.Value(row.family),
                    pb.Resolution.Value(row.resolution),
                    pb.Quality.Value(row.quality),
                ): Speed(row.frames_per_second, row.overhead_seconds)
                for row in speeds
            },
        )


_DUE = (
    select(
        tasks.c.export_id,
        func.min(tasks.c.lane).label("lane"),
        func.count().label("due"),
        func.sum(tasks.c.frames).label("frames"),
        func.max(tasks.c.frames).label("longest"),
        func.bool_or(tasks.c.kind == "ASSEMBLE").label("assembly_due"),
    )
    .where(tasks.c.state == TaskState.PENDING)
    .group_by(tasks.c.export_id)
    .subquery()
)
_IN_FLIGHT = (
    select(
        tasks.c.export_id,
        func.min(tasks.c.lane).label("lane"),
        func.jsonb_agg(
            func.jsonb_build_array(
                tasks.c.id,
                tasks.c.kind,
                tasks.c.state == TaskState.RUNNING,
                tasks.c.frames,
                tasks.c.frames_done,
                func.extract("epoch", tasks.c.dispatched_at),
            )
        ).label("in_flight"),
    )
    .where(tasks.c.state.in_(IN_FLIGHT_TASKS))
    .group_by(tasks.c.export_id)
    .subquery()
)
# All tasks of an export are in one lane.
_LANE = func.coalesce(_DUE.c.lane, _IN_FLIGHT.c.lane)
_SERVED = select(func.extract("epoch", func.max(tasks.c.ended_at))).where(
    tasks.c.user_id == exports.c.user_id, tasks.c.lane == _LANE
)
_UNFINISHED = (
    select(
        exports.c.id,
        exports.c.user_id,
        exports.c.state,
        exports.c.priority,
        exports.c.progress,
        exports.c.created_at,
        _LANE.label("lane"),
        _SERVED.correlate(exports, _DUE, _IN_FLIGHT).scalar_subquery().label("served_at"),
        _DUE.c.due,
        _DUE.c.frames,
        _DUE.c.longest,
        _DUE.c.assembly_due,
        _IN_FLIGHT.c.in_flight,
        # Whole once: each key that is taken out of a long plan unpacks it anew.
        without(exports.c.plan, "segments"),
    )
    .outerjoin(_DUE, _DUE.c.export_id == exports.c.id)
    .outerjoin(_IN_FLIGHT, _IN_FLIGHT.c.export_id == exports.c.id)
    .where(exports.c.state.in_(ACTIVE_EXPORTS))
)
_SPEEDS = select(encode_speeds).where(
    encode_speeds.c.family.in_([pb.EncoderFamily.Name(item) for item in FAMILY_OF_LANE.values()])
)


def _unfinished(row: RowMapping) -> UnfinishedExport:
    in_flight = sorted(
        (_in_flight(item) for item in row["in_flight"] or ()),
        # As they are sent where several are at a time.
        key=lambda task: (task.sent_at, -task.frames, task.id),
    )
    return UnfinishedExport(
        id=row["id"],
        user_id=row["user_id"],
        state=ExportState(row["state"]),
        priority=row["priority"],
        progress=row["progress"],
        created_at=row["created_at"],
        lane=Lane(row["lane"]) if row["lane"] else None,
        served_at=None if row["served_at"] is None else float(row["served_at"]),
        in_flight=tuple(in_flight),
        due=row["due"] or 0,
        frames=int(row["frames"] or 0),
        longest=row["longest"] or 0,
        assembly_due=bool(row["assembly_due"]),
        plan=_summary(row["plan"]) if row["plan"] else None,
    )


def _summary(plan: dict[str, Any]) -> PlanSummary:
    return PlanSummary(
        resolution=pb.Resolution.Value(plan["resolution"]),
        quality=pb.Quality.Value(plan["quality"]),
        width=plan["width"],
        height=plan["height"],
        frame_count=int(plan["frame_count"]),
        chunk_count=plan.get("chunk_count", 0),
    )


def _in_flight(item: list[Any]) -> InFlightTask:
    task_id, kind, running, frames, frames_done, sent_at = item
    return InFlightTask(task_id, kind, running, frames, frames_done, float(sent_at))
