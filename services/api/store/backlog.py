"""What a forecast needs to know of the work that is left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import RowMapping, Text, column, func, select, true, values

from services.api.encode_kind import NAMES_OF_FAMILIES, EncodeKind
from services.api.measuring import compared_frames
from services.api.models import encode_speeds, exports, tasks
from services.api.states import ACTIVE_EXPORTS, IN_FLIGHT_TASKS, ExportState, TaskState
from services.api.store.database import Database
from services.api.store.exports import without
from services.common.codecs import H264
from services.common.enum_names import value_or_unspecified
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb


@dataclass(frozen=True, slots=True)
class Speed:
    """What a slot takes for a task: so many frames a second, and seconds beside them."""

    frames_per_second: float
    overhead_seconds: float


@dataclass(frozen=True, slots=True)
class DueTasks:
    """Tasks of an export in one lane that were not sent and wait for nothing.

    Attributes:
        frames: their work, in frames of a video encode.
        longest: the most work of one of them.
        kinds: of them, each once.
    """

    lane: Lane
    count: int
    frames: int
    longest: int
    kinds: tuple[str, ...]


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
    lane: Lane
    running: bool
    frames: int
    frames_done: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What a forecast needs to know of a plan; a `Plan` of each would take twice the time.

    Attributes:
        compared_frames: of the output, with its source; 0 where that is not asked for.
    """

    quality: pb.Quality.ValueType
    width: int
    height: int
    frame_count: int
    chunk_count: int
    video_codec: pb.VideoCodec.ValueType = H264
    compared_frames: int = 0


@dataclass(frozen=True, slots=True)
class UnfinishedExport:
    """What is left of an export.

    Attributes:
        pictures_made: frames of pictures that it has made itself.
        due: its tasks that are due, by lane.
        in_flight: its tasks that were sent, first sent first.
        plan: None while there is none.
    """

    id: str
    user_id: str
    state: ExportState
    priority: int
    created_at: datetime
    pictures_made: int
    due: tuple[DueTasks, ...]
    in_flight: tuple[InFlightTask, ...]
    plan: PlanSummary | None


@dataclass(frozen=True, slots=True)
class WorkLeft:
    """All that is left to do.

    Attributes:
        served: when a task of a user ended last in a lane, in seconds since 1970.
        speeds: what was measured, of the named sizes.
    """

    exports: list[UnfinishedExport]
    served: dict[tuple[str, Lane], float]
    speeds: dict[EncodeKind, Speed]


class BacklogStore:
    """Reads what is left to do; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> WorkLeft:
        """Return what is left to do.

        Raises:
            DomainError: STORE_UNAVAILABLE.
        """
        async with self._database.transaction() as connection:
            # One statement, so that no task is seen twice or not at all on its way.
            rows = (await connection.execute(_UNFINISHED)).mappings().all()
            served = (await connection.execute(_SERVED)).all()
            speeds = (await connection.execute(_SPEEDS)).all()
        return WorkLeft(
            [_unfinished(row) for row in rows],
            {(row.user_id, Lane(row.lane)): row.at.timestamp() for row in served},
            {
                kind: Speed(row.frames_per_second, row.overhead_seconds)
                for row in speeds
                if (kind := EncodeKind.of_row(row.family, row.resolution, row.quality)) is not None
            },
        )


_DUE_BY_LANE = (
    select(
        tasks.c.export_id,
        tasks.c.lane,
        func.count().label("count"),
        func.sum(tasks.c.frames).label("frames"),
        func.max(tasks.c.frames).label("longest"),
        func.jsonb_agg(tasks.c.kind.distinct()).label("kinds"),
    )
    .where(tasks.c.state == TaskState.PENDING)
    .group_by(tasks.c.export_id, tasks.c.lane)
    .subquery()
)
_DUE = (
    select(
        _DUE_BY_LANE.c.export_id,
        func.jsonb_agg(func.jsonb_build_array(*list(_DUE_BY_LANE.c)[1:])).label("due"),
    )
    .group_by(_DUE_BY_LANE.c.export_id)
    .subquery()
)
_IN_FLIGHT = (
    select(
        tasks.c.export_id,
        func.jsonb_agg(
            func.jsonb_build_array(
                tasks.c.id,
                tasks.c.kind,
                tasks.c.lane,
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
_UNFINISHED = (
    select(
        exports.c.id,
        exports.c.user_id,
        exports.c.state,
        exports.c.priority,
        exports.c.created_at,
        exports.c.frames_encoded,
        _DUE.c.due,
        _IN_FLIGHT.c.in_flight,
        # Whole once: each key that is taken out of a long plan unpacks it anew.
        without(exports.c.plan, "segments", "metadata"),
    )
    .outerjoin(_DUE, _DUE.c.export_id == exports.c.id)
    .outerjoin(_IN_FLIGHT, _IN_FLIGHT.c.export_id == exports.c.id)
    .where(exports.c.state.in_(ACTIVE_EXPORTS))
)
_USERS = select(exports.c.user_id).where(exports.c.state.in_(ACTIVE_EXPORTS)).distinct().subquery()
_LANES = values(column("lane", Text), name="lanes").data([(str(lane),) for lane in Lane])
_LAST = (
    select(func.max(tasks.c.ended_at).label("at"))
    .where(tasks.c.user_id == _USERS.c.user_id, tasks.c.lane == _LANES.c.lane)
    .lateral()
)
_SERVED = (
    select(_USERS.c.user_id, _LANES.c.lane, _LAST.c.at)
    .select_from(_USERS.join(_LANES, true()).join(_LAST, true()))
    .where(_LAST.c.at.is_not(None))
)
_SPEEDS = select(encode_speeds).where(encode_speeds.c.family.in_(NAMES_OF_FAMILIES))


# A newer version may have others.
_LANE_NAMES = frozenset(map(str, Lane))


def _unfinished(row: RowMapping) -> UnfinishedExport:
    in_flight = sorted(
        (_in_flight(item) for item in row["in_flight"] or () if item[2] in _LANE_NAMES),
        # As they are sent where several are at a time.
        key=lambda task: (task.sent_at, -task.frames, task.id),
    )
    return UnfinishedExport(
        id=row["id"],
        user_id=row["user_id"],
        state=ExportState(row["state"]),
        priority=row["priority"],
        created_at=row["created_at"],
        pictures_made=row["frames_encoded"],
        due=tuple(
            DueTasks(Lane(lane), count, frames, longest, tuple(kinds))
            for lane, count, frames, longest, kinds in row["due"] or ()
            if lane in _LANE_NAMES
        ),
        in_flight=tuple(in_flight),
        plan=_summary(row["plan"]) if row["plan"] else None,
    )


def _summary(plan: dict[str, Any]) -> PlanSummary:
    frame_count = int(plan["frame_count"])
    compared = 0
    if plan.get("measure_quality"):
        rate = Fraction(plan["frame_rate"]["numerator"], plan["frame_rate"]["denominator"])
        compared = compared_frames(frame_count, rate)
    # Sound alone has no pictures to tell of, plans of before have no codec, and a newer version
    # may have others.
    return PlanSummary(
        quality=value_or_unspecified(pb.Quality, plan.get("quality", "")),
        width=plan.get("width", 0),
        height=plan.get("height", 0),
        frame_count=frame_count,
        chunk_count=plan.get("chunk_count", 0),
        video_codec=value_or_unspecified(pb.VideoCodec, plan.get("video_codec", "")) or H264,
        compared_frames=compared,
    )


def _in_flight(item: list[Any]) -> InFlightTask:
    task_id, kind, lane, running, frames, frames_done, sent_at = item
    return InFlightTask(task_id, kind, Lane(lane), running, frames, frames_done, float(sent_at))
