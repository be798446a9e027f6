"""How many seconds of slots an export still needs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.api.eta import Backlog
from services.api.progress import Pace
from services.api.states import ExportState
from services.api.store.backlog import InFlightTask, SpeedKind, UnfinishedExport
from services.api.work import FRAMES_PER_JOIN
from services.common.families import FAMILY_OF_LANE
from services.common.planner import DEFAULT_PIXELS_PER_SECOND
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb

# Of a task, beside its work: to be taken, checked, stored and told.
TASK_SECONDS = 1.0
# Of a probe, with everything.
PROBE_SECONDS = 1.5
# A run's own speed counts like the measured one of its kind after so long. Short, for
# material differs by more than machines do; not nothing, for words come in steps.
TRIAL_SECONDS = 2.0

PaceOf = Callable[[str], Pace | None]


def speed_of(export: UnfinishedExport, lane: Lane, speeds: Mapping[SpeedKind, float]) -> float:
    """Return frames per second of one slot: measured of its kind, or else assumed."""
    family = FAMILY_OF_LANE.get(lane)
    if family is not None:
        kind = (pb.EncoderFamily.Name(family), export.resolution, export.quality)
        if speeds.get(kind, 0) > 0:
            return speeds[kind]
    return DEFAULT_PIXELS_PER_SECOND / max(1, export.width * export.height)


def backlog_of(export: UnfinishedExport, lane: Lane, speed: float, pace_of: PaceOf) -> Backlog:
    """Return what is left of an export.

    Args:
        speed: frames per second of one slot.
        pace_of: tells how a task that runs gets on, by its id; None where it was not heard of.
    """
    each = PROBE_SECONDS if lane is Lane.PROBE else TASK_SECONDS
    joins = export.assembly_due or any(task.kind == "ASSEMBLE" for task in export.in_flight)
    tail = 0.0
    if export.chunk_count and not joins:
        tail = export.frame_count / FRAMES_PER_JOIN / speed + each
    running = tuple(
        seconds_left(task, speed, each, pace_of(task.id))
        for task in export.in_flight
        if task.running
    )
    return Backlog(
        export_id=export.id,
        user_id=export.user_id,
        order=export.created_at.timestamp(),
        priority=export.priority,
        begun=export.state is ExportState.PROCESSING and export.progress > 0,
        running=running,
        sent=tuple(
            (task.sent_at, task.frames / speed + each)
            for task in export.in_flight
            if not task.running
        ),
        waiting=export.due,
        work=export.frames / speed + export.due * each,
        longest=export.longest / speed + each if export.due else 0.0,
        tail=tail,
    )


def seconds_left(task: InFlightTask, speed: float, each: float, pace: Pace | None) -> float:
    """Return what a task that runs still needs.

    Args:
        speed: frames per second of its kind.
        each: seconds of a task beside its work.
    """
    if pace is None:
        return max(0, task.frames - task.frames_done) / speed + each
    if not pace.frame_count:
        # It does not tell how far it is.
        return max(0.0, task.frames / speed + each - pace.age)
    left = max(0, pace.frame_count - pace.frames_done)
    if not pace.frames_done:
        return max(each, left / speed + each - pace.age)
    trial = TRIAL_SECONDS * speed
    return left * (TRIAL_SECONDS + pace.seconds) / (trial + pace.frames) + each
