"""Probes of sources: what they lead to, and what comes of late ones."""

from __future__ import annotations

from api_rig import INFO, NO_QUOTAS, PLAN, SOURCE, Case, Rig

from services.api.planning import order_of
from services.api.states import ExportState
from services.api.store.records import Planned, source_key
from services.api.store.tasks import Applied
from services.api.work import whole_task
from services.common.families import choose_family
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


async def probed(
    case: Case, run: str = "run_1", *, attempt: int = 1, error: pb.ExportError | None = None
) -> Applied:
    """Apply a probe; the plan is the rig's unless an error is given."""
    choice = choose_family(pb.ENCODER_PREFERENCE_GPU, gpu_live=False)
    task = whole_task(order_of(case.record), INFO, PLAN, choice)
    planned = Planned(PLAN, (task,), choice.warnings)
    done = task_pb2.TaskSucceeded(info=INFO)
    event = case.event(run, attempt=attempt, succeeded=done)
    return await case.rig.tasks.probe_succeeded(event, error or planned)


async def kinds(rig: Rig) -> list[tuple[str, str]]:
    rows = await rig.sql("SELECT kind, state FROM tasks ORDER BY created_at, kind")
    return [(row["kind"], row["state"]) for row in rows]


async def test_probe_plans_the_export_and_keeps_what_it_found(rig: Rig) -> None:
    case = await rig.create(probe=True)
    await case.begin()
    assert await probed(case) == Applied(changed=True)
    record = await case.now()
    assert (record.state, record.phase, record.plan) == (ExportState.PROCESSING, "WAITING", PLAN)
    assert [item.code for item in record.warnings] == ["GPU_FALLBACK"]
    assert await kinds(rig) == [("PROBE", "SUCCEEDED"), ("WHOLE", "PENDING")]
    assert await rig.tasks.find_probe(source_key("anna", SOURCE), "etag") == INFO
    assert await rig.deletions() == []


async def test_probe_delivered_again_plans_once(rig: Rig) -> None:
    case = await rig.create(probe=True)
    await case.begin()
    await probed(case)
    assert await probed(case) == Applied()
    assert await probed(case, "run_2") == Applied()
    assert len(await kinds(rig)) == 2


async def test_probe_of_an_overtaken_attempt_is_as_good(rig: Rig) -> None:
    case = await rig.create(probe=True)
    await case.begin("run_1")
    await case.released("run_1")
    await rig.dispatch(case.task.lane)
    assert (await probed(case, "run_0", attempt=1)).changed


async def test_probe_that_does_not_fit_the_request_fails_the_export_with_every_violation(
    rig: Rig,
) -> None:
    case = await rig.create(probe=True)
    await case.begin()
    error = pb.ExportError(
        code="INVALID_SEGMENTS",
        message="segments[0].end_time: …",
        violations=[
            pb.FieldViolation(field="segments[0].end_time", description="is beyond the end"),
            pb.FieldViolation(field="segments[4].start_time", description="is beyond the end"),
        ],
    )
    assert (await probed(case, error=error)).changed
    record = await case.now()
    assert (record.state, record.error) == (ExportState.FAILED, error)
    assert await kinds(rig) == [("PROBE", "SUCCEEDED")]
    assert await rig.tasks.find_probe(source_key("anna", SOURCE), "etag") == INFO


async def test_source_is_examined_again_when_a_plan_that_may_succeed_later_is_tried_again(
    rig: Rig,
) -> None:
    case = await rig.create(probe=True)
    await case.begin()
    await probed(case, error=pb.ExportError(code="NO_ENCODER", retryable=True))
    assert await case.state() is ExportState.FAILED
    assert await kinds(rig) == [("PROBE", "FAILED")]
    await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    assert await rig.dispatch(case.task.lane) == [case.task.id]
    await case.started("run_2", attempt=2)
    await probed(case, "run_2", attempt=2)
    assert await kinds(rig) == [("PROBE", "SUCCEEDED"), ("WHOLE", "PENDING")]


async def test_probe_whose_start_was_not_heard_of_can_fail_the_export(rig: Rig) -> None:
    case = await rig.create(probe=True)
    await rig.dispatch(case.task.lane)
    await probed(case, error=pb.ExportError(code="INVALID_SEGMENTS"))
    assert await case.state() is ExportState.FAILED


async def test_probe_of_a_cancelled_export_plans_nothing(rig: Rig) -> None:
    case = await rig.create(probe=True)
    await case.begin()
    await rig.exports.cancel(case.id, "anna")
    assert await probed(case) == Applied()
    assert await kinds(rig) == [("PROBE", "CANCELLED")]


async def test_probe_of_a_deleted_export_plans_nothing(rig: Rig) -> None:
    case = await rig.create(probe=True)
    await case.begin()
    await rig.exports.delete(case.id, "anna")
    assert await probed(case) == Applied()
    assert await kinds(rig) == []
