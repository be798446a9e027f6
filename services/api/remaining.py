"""How many seconds of slots an export still needs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.api.eta import Backlog
from services.api.progress import Pace
from services.api.states import ExportState
from services.api.store.backlog import InFlightTask, Speed, SpeedKind, UnfinishedExport
from services.api.work import FRAMES_PER_JOIN
from services.common.families import FAMILY_OF_LANE
from services.common.planner import DEFAULT_PIXELS_PER_SECOND
from services.common.subjects import Lane

# Of a task, beside its frames, while none is measured.
OVERHEAD_SECONDS = 1.0
# Of a probe, with everything.
PROBE_SECONDS = 1.5
# A run's own speed counts like the measured one of its kind after so long. Short, for
# material differs by more than machines do; not nothing, for words come in steps.
TRIAL_SECONDS = 2.0

PaceOf = Callable[[str], Pace | None]


def speed_of(export: UnfinishedExport, speeds: Mapping[SpeedKind, Speed]) -> Speed:
    """Return the speed of a slot for an export: measured of its kind, or else assumed."""
    family = FAMILY_OF_LANE.get(export.lane or Lane.PROBE)
    if family is None or export.plan is None:
        return Speed(1.0, PROBE_SECONDS)
    measured = speeds.get((family, export.plan.resolution, export.plan.quality))
    if measured is not None:
        return measured
    pixels = max(1, export.plan.width * export.plan.height)
    return Speed(DEFAULT_PIXELS_PER_SECOND / pixels, OVERHEAD_SECONDS)


def backlog_of(export: UnfinishedExport, speed: Speed, pace_of: PaceOf) -> Backlog:
    """Return what is left of an export.

    Args:
        speed: of a slot.
        pace_of: tells how a task that runs gets on, by its id; None where it was not heard of.
    """
    joins = export.assembly_due or any(task.kind == "ASSEMBLE" for task in export.in_flight)
    tail = 0.0
    if export.plan is not None and export.plan.chunk_count and not joins:
        tail = _seconds(export.plan.frame_count // FRAMES_PER_JOIN, speed)
    return Backlog(
        export_id=export.id,
        user_id=export.user_id,
        order=export.created_at.timestamp(),
        served=float("-inf") if export.served_at is None else export.served_at,
        priority=export.priority,
        begun=export.state is ExportState.PROCESSING and export.progress > 0,
        running=tuple(
            seconds_left(task, speed, pace_of(task.id)) for task in export.in_flight if task.running
        ),
        sent=tuple(
            (task.sent_at, _seconds(task.frames, speed))
            for task in export.in_flight
            if not task.running
        ),
        waiting=export.due,
        work=_seconds(export.frames, speed, tasks=export.due),
        longest=_seconds(export.longest, speed, tasks=min(1, export.due)),
        tail=tail,
    )


def _seconds(frames: float, speed: Speed, *, tasks: int = 1) -> float:
    """Return what tasks with so many frames take."""
    return frames / speed.frames_per_second + tasks * speed.overhead_seconds if tasks else 0.0


def seconds_left(task: InFlightTask, speed: Speed, pace: Pace | None) -> float:
    """Return what a task that runs still needs.

    Args:
        speed: of its kind.
    """
    if pace is None:
        return _seconds(max(0, task.frames - task.frames_done), speed)
    if not pace.frame_count:
        # It does not tell how far it is.
        return max(0.0, _seconds(task.frames, speed) - pace.age)
    left = max(0, pace.frame_count - pace.frames_done)
    if not pace.frames_done:
        return max(speed.overhead_seconds, _seconds(left, speed) - pace.age)
    trial = TRIAL_SECONDS * speed.frames_per_second
    seconds_per_frame = (TRIAL_SECONDS + pace.seconds) / (trial + pace.frames)
    return left * seconds_per_frame + speed.overhead_seconds
