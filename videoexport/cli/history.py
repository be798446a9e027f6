"""The history of an export as a table: a line a change, oldest first."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from videoexport.cli.text import moment, table
from videoexport.v1 import export_pb2

_COLUMNS = ("TIME", "WHAT", "FROM", "TO", "ATTEMPT", "WHO", "WHY")
# Of a task's id; enough to tell the tasks of one export from each other.
_ID_CHARACTERS = 12


def history_table(export: export_pb2.Export) -> str:
    """Return who changed which state of an export and its tasks, when and why."""
    lines = [table(_COLUMNS, map(_row, export.history))]
    if export.history_omitted_count:
        lines.append(f"{export.history_omitted_count:,} older changes of tasks are left out")
    return "\n".join(lines)


def _row(change: export_pb2.StateChange) -> tuple[str, ...]:
    return (
        _instant(change.change_time),
        *_what(change),
        change.actor or "unknown",
        _why(change),
    )


def _what(change: export_pb2.StateChange) -> tuple[str, ...]:
    """Return whose state has changed, from what, to what, and the attempt."""
    if change.WhichOneof("change") == "task":
        task = change.task
        kind = export_pb2.TaskKind.Name(task.kind).removeprefix("TASK_KIND_").lower()
        return (
            f"{kind} {task.task_id[:_ID_CHARACTERS]}",
            _state(export_pb2.TaskState.Name(task.from_state)),
            _state(export_pb2.TaskState.Name(task.to_state)),
            str(task.attempt or ""),
        )
    return (
        "export",
        _state(export_pb2.ExportState.Name(change.export.from_state)),
        _state(export_pb2.ExportState.Name(change.export.to_state)),
        "",
    )


def _state(name: str) -> str:
    state = name.split("_STATE_")[1].lower()
    return "" if state == "unspecified" else state


def _why(change: export_pb2.StateChange) -> str:
    if not change.reason:
        return "unknown"
    # The table is for reading; programs have --json.
    reason = change.reason.lower().replace("_", " ")
    return f"{reason}: {change.detail}" if change.detail else reason


def _instant(time: Timestamp) -> str:
    """Return an instant in the reader's time zone, to the millisecond: a second holds several."""
    milliseconds = time.nanos // 1_000_000
    return f"{moment(time)}.{milliseconds:03}"
