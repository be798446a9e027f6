"""The history as a table."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from videoexport.cli.history import history_table
from videoexport.v1 import export_pb2

TASK = "tsk_0123456789abcdef0123456789abcdef"


def test_history_is_a_line_a_change() -> None:
    export = export_pb2.Export(
        history=[
            export_pb2.StateChange(
                change_time=Timestamp(seconds=1_000_000, nanos=42_900_000),
                export=export_pb2.ExportStateChange(to_state=export_pb2.EXPORT_STATE_QUEUED),
                actor="user:ann",
                reason="CREATED",
            ),
            export_pb2.StateChange(
                task=export_pb2.TaskStateChange(
                    task_id=TASK,
                    kind=export_pb2.TASK_KIND_WHOLE,
                    from_state=export_pb2.TASK_STATE_RUNNING,
                    to_state=export_pb2.TASK_STATE_PENDING,
                    attempt=2,
                ),
                actor="encoder:encoder-1",
                reason="TIME_LIMIT",
                detail="Too slow.\x1b[2J",
            ),
            export_pb2.StateChange(
                export=export_pb2.ExportStateChange(
                    from_state=export_pb2.EXPORT_STATE_QUEUED,
                    to_state=export_pb2.EXPORT_STATE_PROCESSING,
                ),
            ),
        ],
        history_omitted_count=41_000,
    )
    columns, created, failed, unknown, omitted = history_table(export).splitlines()
    assert columns.split() == ["TIME", "WHAT", "FROM", "TO", "ATTEMPT", "WHO", "WHY"]
    assert created.split()[1].endswith(".042")
    assert created.split()[2:] == ["export", "queued", "user:ann", "created"]
    assert failed.split()[2:] == [
        *("whole", TASK[:12], "running", "pending", "2", "encoder:encoder-1"),
        *("time", "limit:", "Too", "slow.\N{REPLACEMENT CHARACTER}[2J"),
    ]
    assert unknown.split()[2:] == ["export", "queued", "processing", "unknown", "unknown"]
    assert omitted == "41,000 older changes of tasks are left out"
