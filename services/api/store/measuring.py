"""Outputs that are compared with their source before their export is completed.

The file is stored and verified by then: whatever becomes of the comparison, it is delivered.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import exports, tasks
from services.api.states import ACTIVE_EXPORTS, ExportState, TaskState
from services.api.store.exports import end_export, select_exports
from services.api.store.records import ExportRecord, to_json
from services.common.errors import Reason, as_sentence
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


async def begin_measuring(connection: AsyncConnection, export_id: str, run_id: str) -> bool:
    """Let the comparison begin, if one is wanted; return whether.

    Args:
        run_id: the run that has made the output.
    """
    query = select(tasks.c.id, tasks.c.message).where(
        tasks.c.export_id == export_id,
        tasks.c.kind == "MEASURE",
        tasks.c.state == TaskState.WAITING,
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return False
    message = task_pb2.Task.FromString(row.message)
    message.measure.run_id = run_id
    await connection.execute(
        update(tasks)
        .where(tasks.c.id == row.id)
        .values(state=TaskState.PENDING, not_before=func.now(), message=message.SerializeToString())
    )
    return True


async def keep_output(connection: AsyncConnection, export_id: str, values: dict[str, Any]) -> None:
    """Keep what an export will be completed with."""
    await connection.execute(
        update(exports)
        .where(exports.c.id == export_id, exports.c.state.in_(ACTIVE_EXPORTS))
        .values(**values, phase="VERIFYING", updated_at=func.now())
    )


async def complete(connection: AsyncConnection, export_id: str, **values: Any) -> bool:
    """Complete an export; return False where that way is not open."""
    return await end_export(connection, export_id, ExportState.COMPLETED, progress=100.0, **values)


async def complete_unmeasured(
    connection: AsyncConnection, export_id: str, why: str
) -> pb.Output | None:
    """Complete an export whose output cannot be compared; return it, None where it has ended."""
    query = select_exports().where(exports.c.id == export_id)
    record = ExportRecord.from_row((await connection.execute(query)).mappings().one())
    message = as_sentence(f"The output could not be compared with its source: {why}")
    warning = pb.ExportWarning(code=Reason.QUALITY_NOT_MEASURED, message=message)
    warnings = [to_json(item) for item in (*record.warnings, warning)]
    completed = await complete(connection, export_id, warnings=warnings)
    return record.output if completed else None
