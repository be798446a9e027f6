"""From an export to the tasks that make it. Pure: the message of a task is its whole input."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from services.api.store.records import NewTask
from services.common import ids
from services.common.families import FamilyChoice
from services.common.planner import DEFAULT_PIXELS_PER_SECOND
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# How much longer than estimated an encode may take: slow machines and hard
# material differ from the average by less than this.
TIME_LIMIT_FACTOR = 20
TIME_LIMIT_FLOOR = timedelta(minutes=10)


def probe_task(export_id: str, user_id: str, source: task_pb2.TaskSource) -> NewTask:
    """Return the task that examines the source of an export."""
    message = task_pb2.Task(
        task_id=ids.task_id(),
        export_id=export_id,
        user_id=user_id,
        source=source,
        probe=task_pb2.ProbeTask(),
    )
    return NewTask(message.task_id, "PROBE", Lane.PROBE, message.SerializeToString(), frames=0)


def whole_task(
    export_id: str,
    user_id: str,
    source: task_pb2.TaskSource,
    info: pb.SourceInfo,
    plan: pb.Plan,
    choice: FamilyChoice,
) -> NewTask:
    """Return the task that makes the whole output in one FFmpeg run."""
    message = task_pb2.Task(
        task_id=ids.task_id(),
        export_id=export_id,
        user_id=user_id,
        source=source,
        whole=task_pb2.WholeTask(
            info=info,
            plan=plan,
            family=choice.family,
            family_reason=choice.reason,
            time_limit=_time_limit(plan),
        ),
    )
    return NewTask(
        message.task_id, "WHOLE", choice.lane, message.SerializeToString(), plan.frame_count
    )


def moved_to(message: bytes, choice: FamilyChoice) -> bytes:
    """Return the message of a task for another encoder family."""
    task = task_pb2.Task.FromString(message)
    task.whole.family = choice.family
    task.whole.family_reason = choice.reason
    return task.SerializeToString()


def _time_limit(plan: pb.Plan) -> Duration:
    """Return how long FFmpeg may run: by the CPU's speed, for a GPU's job may end up there."""
    cpu_seconds = plan.width * plan.height * plan.frame_count / DEFAULT_PIXELS_PER_SECOND
    limit = Duration()
    limit.FromTimedelta(TIME_LIMIT_FLOOR + TIME_LIMIT_FACTOR * timedelta(seconds=cpu_seconds))
    return limit
