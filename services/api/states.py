"""The states of exports and tasks, and every way from one to another."""

from __future__ import annotations

from enum import StrEnum

from videoexport.v1 import export_pb2 as pb


class ExportState(StrEnum):
    """Where an export stands; the names are those of `videoexport.v1.ExportState`."""

    QUEUED = "QUEUED"  # accepted and stored; nothing has run for it yet
    PROCESSING = "PROCESSING"  # at least one task has begun
    COMPLETED = "COMPLETED"  # the output is verified and stored
    FAILED = "FAILED"  # `error` says why; RetryExport may queue it again
    CANCELLED = "CANCELLED"  # the owner's word, final
    EXPIRED = "EXPIRED"  # was COMPLETED; retention has removed the output

    @classmethod
    def of(cls, state: pb.ExportState.ValueType) -> ExportState:
        """Return the state that the contract calls so."""
        return cls(pb.ExportState.Name(state).removeprefix("EXPORT_STATE_"))


class TaskState(StrEnum):
    """Where a task stands."""

    WAITING = "WAITING"  # for the parts of its export
    PENDING = "PENDING"  # a row only; due once `not_before` has passed
    DISPATCHED = "DISPATCHED"  # JetStream has stored its message
    RUNNING = "RUNNING"  # an encoder has said that it began
    SUCCEEDED = "SUCCEEDED"  # its first result was applied
    FAILED = "FAILED"  # given up
    CANCELLED = "CANCELLED"  # the export ended without it


EXPORT_TRANSITIONS: dict[ExportState, frozenset[ExportState]] = {
    ExportState.QUEUED: frozenset(
        {ExportState.PROCESSING, ExportState.FAILED, ExportState.CANCELLED}
    ),
    ExportState.PROCESSING: frozenset(
        {ExportState.COMPLETED, ExportState.FAILED, ExportState.CANCELLED}
    ),
    ExportState.COMPLETED: frozenset({ExportState.EXPIRED}),
    ExportState.FAILED: frozenset({ExportState.QUEUED}),  # RetryExport
    ExportState.CANCELLED: frozenset(),
    ExportState.EXPIRED: frozenset(),
}

# Messages may be delivered twice, late and out of order, so a task that is not
# yet decided accepts a start, a result or a failure in every state: the first
# result wins. Which attempt may speak is checked where events are applied.
_UNDECIDED = {TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED}

TASK_TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.WAITING: frozenset({TaskState.PENDING, TaskState.CANCELLED}),
    TaskState.PENDING: frozenset({TaskState.DISPATCHED, *_UNDECIDED}),
    TaskState.DISPATCHED: frozenset({TaskState.PENDING, *_UNDECIDED}),
    TaskState.RUNNING: frozenset({TaskState.PENDING, *_UNDECIDED}),  # RUNNING: delivered again
    TaskState.SUCCEEDED: frozenset(),
    # RetryExport, where CANCELLED means that another task had failed.
    TaskState.FAILED: frozenset({TaskState.PENDING, TaskState.WAITING}),
    TaskState.CANCELLED: frozenset({TaskState.PENDING, TaskState.WAITING}),
}

ACTIVE_EXPORTS = (ExportState.QUEUED, ExportState.PROCESSING)
TERMINAL_EXPORTS = tuple(state for state in ExportState if state not in ACTIVE_EXPORTS)
IN_FLIGHT_TASKS = (TaskState.DISPATCHED, TaskState.RUNNING)
# What the word of an encoder may decide.
UNDECIDED_TASKS = (TaskState.PENDING, *IN_FLIGHT_TASKS)
ACTIVE_TASKS = (TaskState.WAITING, *UNDECIDED_TASKS)


def export_sources(target: ExportState) -> tuple[ExportState, ...]:
    """Return the states from which an export may become `target`."""
    return tuple(state for state in ExportState if target in EXPORT_TRANSITIONS[state])


def task_sources(target: TaskState) -> tuple[TaskState, ...]:
    """Return the states from which a task may become `target`."""
    return tuple(state for state in TaskState if target in TASK_TRANSITIONS[state])
