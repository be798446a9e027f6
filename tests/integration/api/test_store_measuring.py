"""Outputs that are compared with their source before their export is completed."""

from __future__ import annotations

from datetime import timedelta

from api_rig import OUTPUT, Case, Rig

from services.api.states import ExportState
from services.api.store.tasks import Applied
from services.api.views import to_export
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

QUALITY = pb.VideoQuality(vmaf_mean=94.5, vmaf_min=80, frame_count=20, model="vmaf_v0.6.1")
HOUR = timedelta(hours=1)


async def made(rig: Rig) -> Case:
    """Return an export whose output is there and is still to be compared."""
    case = await rig.create(measured=True)
    await case.complete("run_1")
    return case


async def measuring_of(rig: Rig) -> tuple[str, str]:
    """Return the comparison: its id and its state."""
    [row] = await rig.sql("SELECT id, state FROM tasks WHERE kind = 'MEASURE'")
    return row["id"], row["state"]


async def measured(case: Case, run: str = "run_2") -> Applied:
    """Apply that a run has compared."""
    task_id, _ = await measuring_of(case.rig)
    done = task_pb2.TaskSucceeded(quality=QUALITY)
    return await case.rig.tasks.measured(case.event(run, task=task_id, succeeded=done))


async def not_measured(case: Case, verdict: timedelta | pb.ExportError) -> Applied:
    task_id, _ = await measuring_of(case.rig)
    failed = task_pb2.TaskFailed(code="ENCODER_FAILED", message="Broken pipe.")
    event = case.event("run_2", task=task_id, failed=failed)
    return await case.rig.tasks.failed(event, lambda _: verdict)


async def test_comparison_waits_for_the_output_and_the_export_for_the_comparison(rig: Rig) -> None:
    case = await rig.create(measured=True)
    assert (await measuring_of(rig))[1] == "WAITING"
    assert await rig.dispatch() == [case.task.id]
    await case.started("run_1")
    applied = await case.succeeded("run_1")
    assert applied.changed
    assert applied.output is None
    record = await case.now()
    assert (record.state, record.phase) == (ExportState.PROCESSING, "VERIFYING")
    assert record.output_run_id == "run_1"
    assert record.expires_at is not None
    assert not to_export(record).HasField("output"), "it may still be withdrawn"
    assert await rig.deletions() == []
    [sent] = await rig.dispatch(Lane.CPU)
    message = await rig.value("SELECT message FROM tasks WHERE id = %s", sent)
    assert task_pb2.Task.FromString(message).measure.run_id == "run_1"


async def test_comparison_completes_the_export(rig: Rig) -> None:
    case = await made(rig)
    applied = await measured(case)
    assert applied.changed
    assert applied.output is not None
    record = await case.now()
    assert (record.state, record.progress) == (ExportState.COMPLETED, 100)
    assert record.output is not None
    assert record.output.sha256 == OUTPUT.sha256
    assert record.output.verification.quality == QUALITY
    assert not record.warnings
    assert not (await measured(case)).changed, "told twice"
    assert await rig.value("SELECT count(*) FROM announcements") == 1


async def test_comparison_that_fails_is_tried_again_and_at_last_done_without(rig: Rig) -> None:
    case = await made(rig)
    await not_measured(case, timedelta(0))
    assert (await measuring_of(rig))[1] == "PENDING"
    assert await case.state() is ExportState.PROCESSING
    error = pb.ExportError(code="ENCODER_FAILED", message="Broken pipe.")
    task_id, _ = await measuring_of(rig)
    failed = task_pb2.TaskFailed(code="ENCODER_FAILED", message="Broken pipe.")
    event = case.event("run_3", task=task_id, failed=failed)
    applied = await rig.tasks.failed(event, lambda _: error)
    assert applied.output is not None
    record = await case.now()
    assert (record.state, record.output_run_id) == (ExportState.COMPLETED, "run_1")
    [warning] = record.warnings
    assert warning.code == "QUALITY_NOT_MEASURED"
    assert warning.message.endswith("with its source: Broken pipe.")
    assert record.output is not None
    assert not record.output.verification.HasField("quality")
    assert await rig.deletions() == []


async def test_export_that_is_cancelled_meanwhile_keeps_no_file(rig: Rig) -> None:
    case = await made(rig)
    await rig.exports.cancel(case.id, "anna")
    record = await case.now()
    assert record.state is ExportState.CANCELLED
    assert (record.output, record.output_run_id, record.expires_at) == (None, None, None)
    assert await rig.deletions() == [("anna", "run_1")]
    assert not (await measured(case)).changed
    assert await case.state() is ExportState.CANCELLED


async def test_export_that_is_deleted_meanwhile_leaves_no_file(rig: Rig) -> None:
    case = await made(rig)
    await rig.exports.delete(case.id, "anna")
    assert await rig.deletions() == [("anna", "run_1")]


async def test_other_file_that_comes_meanwhile_is_discarded(rig: Rig) -> None:
    case = await made(rig)
    await case.started("run_9")
    await case.succeeded("run_9")
    assert await rig.deletions() == [("anna", "run_9")]
    assert (await case.now()).output_run_id == "run_1"
    await measured(case)
    assert (await case.now()).output_run_id == "run_1"


async def test_comparison_that_nobody_takes_is_done_without(rig: Rig) -> None:
    case, other = await made(rig), await rig.create("ben")
    await rig.sql(
        "UPDATE tasks SET not_before = not_before - interval '61 minutes',"
        " seen_at = seen_at - interval '61 minutes', ended_at = ended_at - interval '61 minutes'"
    )
    assert {item.export_id for item in await rig.housekeeping.overdue(HOUR)} == {case.id, other.id}
    [item] = await rig.housekeeping.overdue(HOUR, finished=True)
    error = pb.ExportError(code="QUEUE_TIMEOUT", message="It waited.", retryable=True)
    given_up = await rig.housekeeping.give_up(item.export_id, HOUR, error)
    assert given_up is not None
    assert given_up.sent == ()
    assert given_up.output is not None
    assert given_up.output.sha256 == OUTPUT.sha256
    record = await case.now()
    assert (record.state, record.error) == (ExportState.COMPLETED, None)
    assert [warning.code for warning in record.warnings] == ["QUALITY_NOT_MEASURED"]
    assert (await measuring_of(rig))[1] == "CANCELLED"
    assert await other.state() is ExportState.QUEUED
    assert await rig.deletions() == []
