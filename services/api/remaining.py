"""How many seconds of slots an export still needs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from services.api.encode_kind import EncodeKind, kind_of
from services.api.eta import Backlog, LaneWork, Tail
from services.api.progress import Pace
from services.api.states import ExportState
from services.api.store.backlog import InFlightTask, PlanSummary, Speed, UnfinishedExport
from services.api.work import FRAMES_PER_JOIN
from services.common.codecs import picture_work
from services.common.families import FAMILY_OF_LANE
from services.common.planner import DEFAULT_PIXELS_PER_SECOND
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb

# Of a task, beside its frames, while none is measured.
OVERHEAD_SECONDS = 1.0
# From the end of a task to the start of the next in its slot: told, sent, taken.
HANDOVER_SECONDS = 0.1
# Of a probe, with everything.
PROBE_SECONDS = 1.5
# A run's own speed counts like the measured one of its kind after so long. Short, for
# material differs by more than machines do; not nothing, for words come in steps.
TRIAL_SECONDS = 1.0

PaceOf = Callable[[str], Pace | None]


def speed_of(lane: Lane, plan: PlanSummary | None, speeds: Mapping[EncodeKind, Speed]) -> Speed:
    """Return the speed of a slot of a lane: measured with such plans, or else assumed."""
    if plan is None:
        return Speed(1.0, PROBE_SECONDS)
    # Sounds and assemblies are weighed in frames of the CPU.
    family = FAMILY_OF_LANE.get(lane, pb.ENCODER_FAMILY_CPU)
    kind, scale = kind_of(family, plan)
    measured = speeds.get(kind)
    if measured is not None:
        return Speed(measured.frames_per_second / scale, measured.overhead_seconds)
    work = picture_work(plan.width, plan.height, plan.video_codec)
    return Speed(DEFAULT_PIXELS_PER_SECOND / work, OVERHEAD_SECONDS)


def backlog_of(
    export: UnfinishedExport, speeds: Mapping[EncodeKind, Speed], pace_of: PaceOf
) -> Backlog | None:
    """Return what is left of an export; None where it has no task at the moment.

    Args:
        speeds: of slots, as measured.
        pace_of: tells how a task that runs gets on, by its id; None where it was not heard of.
    """
    lanes = {item.lane for item in export.due} | {task.lane for task in export.in_flight}
    if not lanes:
        return None
    lane = min(lanes, key=lambda name: name is Lane.MUX)
    return Backlog(
        export_id=export.id,
        user_id=export.user_id,
        order=export.created_at.timestamp(),
        lane=lane,
        work={
            name: _work(export, name, speed_of(name, export.plan, speeds), pace_of)
            for name in lanes
        },
        priority=export.priority,
        tails=tuple(_tails(export, speeds)),
        begun=export.state is ExportState.PROCESSING and export.pictures_made > 0,
    )


def _tails(export: UnfinishedExport, speeds: Mapping[EncodeKind, Speed]) -> Iterator[Tail]:
    """Yield what waits for all other tasks: what joins the parts, and what compares the output.

    A file that is taken over may have been compared already, which is not seen here.
    """
    plan = export.plan
    begun = {kind for item in export.due for kind in item.kinds}
    begun |= {task.kind for task in export.in_flight}
    if plan is None or "MEASURE" in begun:
        return
    if plan.chunk_count and "ASSEMBLE" not in begun:
        speed = speed_of(Lane.MUX, plan, speeds)
        yield Tail(Lane.MUX, _slot_seconds(plan.frame_count // FRAMES_PER_JOIN, speed))
    if plan.compared_frames:
        seconds = _slot_seconds(plan.compared_frames, speed_of(Lane.CPU, plan, speeds))
        yield Tail(Lane.CPU, seconds, needed=False)


def _work(export: UnfinishedExport, lane: Lane, speed: Speed, pace_of: PaceOf) -> LaneWork:
    due = [item for item in export.due if item.lane is lane]
    in_flight = [task for task in export.in_flight if task.lane is lane]
    return LaneWork(
        running=tuple(
            seconds_left(task, speed, pace_of(task.id)) for task in in_flight if task.running
        ),
        sent=tuple(
            (task.sent_at, _slot_seconds(task.frames, speed))
            for task in in_flight
            if not task.running
        ),
        waiting=sum(item.count for item in due),
        work=sum(_slot_seconds(item.frames, speed, tasks=item.count) for item in due),
        longest=max((_slot_seconds(item.longest, speed) for item in due), default=0.0),
    )


def _slot_seconds(frames: float, speed: Speed, *, tasks: int = 1) -> float:
    """Return how long a slot is taken by tasks with so many frames."""
    each = speed.overhead_seconds + HANDOVER_SECONDS
    return frames / speed.frames_per_second + tasks * each


def _seconds(frames: float, speed: Speed) -> float:
    """Return how long a task with so many frames runs."""
    return frames / speed.frames_per_second + speed.overhead_seconds


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
