"""Every query that the stores run is served by an index."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from api_long import long_export
from api_rig import INFO, PLAN, Case, Rig
from sqlalchemy import text
from statements import Statements, full_scans, plans, recorded

from services.api.models import metadata
from services.api.planning import order_of
from services.api.states import ExportState
from services.api.store import BacklogStore, ExportStore, Housekeeping, ReuseStore, TaskStore
from services.api.store.housekeeping import Deletion
from services.api.store.progress import Progress
from services.api.store.queue_wait import GivenUp
from services.api.store.records import ListFilter, Planned, Quotas, Submission, TaskRecord
from services.api.store.reuse import PartName
from services.api.work import probe_task, whole_task
from services.common.errors import DomainError, Reason
from services.common.families import choose_family
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

QUOTAS = Quotas(exports_per_hour=100, running_per_user=100, queue_limit=100)
LONG = timedelta(hours=1)


async def published(message: task_pb2.ExportEnded) -> None:
    pass


async def deleted(deletions: Sequence[Deletion]) -> None:
    pass


async def not_deleted(deletions: Sequence[Deletion]) -> None:
    raise DomainError(Reason.STORAGE_UNAVAILABLE, "Away.")


async def callers(rig: Rig) -> Case:
    """Do everything that callers do; return an export that waits."""
    store = rig.exports
    case = await rig.create(quotas=QUOTAS, request_id="r")
    await store.earlier("anna", Submission("r", b"body"))
    await rig.sql("UPDATE submissions SET created_at = now() - interval '2 days'")
    await store.earlier("anna", Submission("r", b"body"))
    await store.get(case.id, "anna")
    await store.history(case.id, "anna")
    now = datetime.now(UTC)
    for video in (None, "vid_" + "0" * 32):
        for states in ((), (ExportState.QUEUED,), (ExportState.QUEUED, ExportState.FAILED)):
            where = ListFilter("anna", video, states, now - LONG, now)
            await store.page(where, limit=2, before=(now, case.id))
            await store.page(ListFilter("anna", video, states), limit=2, before=None)
    cancelled = await rig.create()
    await store.cancel(cancelled.id, "anna")
    failed = await rig.create()
    await rig.dispatch()
    await failed.started("run_f")
    await failed.failed_for_good("run_f")
    await store.retry(failed.id, "anna", QUOTAS)
    await store.delete(failed.id, "anna")
    return case


async def encoders(rig: Rig, case: Case) -> None:
    """Apply everything that encoders say."""
    await rig.tasks.lanes_with_room({Lane.CPU: 1, Lane.GPU: 1})
    await rig.dispatch()
    await case.started()
    await rig.tasks.progressed([Progress(case.task.id, case.id, "run_1", 1, "ENCODING", 5)])
    await case.failed()
    await case.released("run_2")
    await rig.dispatch()
    await case.succeeded("run_3", attempt=2, fps=50)
    await case.succeeded("run_4", attempt=2)
    compared = await rig.create(measured=True)
    await compared.complete("run_m")
    measuring = await rig.value("SELECT id FROM tasks WHERE kind = 'MEASURE'")
    told = task_pb2.TaskSucceeded(quality=pb.VideoQuality(vmaf_mean=95))
    assert (
        await rig.tasks.measured(compared.event("run_n", task=measuring, succeeded=told))
    ).changed
    await rig.tasks.keep_probe("key", INFO)
    await rig.tasks.find_probe("key", "etag")
    probed = await rig.create(probe=True)
    await rig.dispatch(Lane.PROBE)

    done = task_pb2.TaskSucceeded(info=INFO)
    source = task_pb2.TaskSource(source=probed.record.source, etag="etag")
    planned = Planned(pb.Plan(), (probe_task(probed.id, "anna", source),))
    await rig.tasks.probe_succeeded(probed.event("run_p", succeeded=done), planned)


async def parts(rig: Rig) -> None:
    """Do everything that is done with exports in parts."""
    case = await long_export(rig)
    video, *_ = case.work
    await rig.dispatch()
    await case.made(video)
    found = await rig.tasks.find(case.event("run_x", task=video.id))
    assert found is not None
    await case.finish()
    assert video.part_key is not None
    await rig.reuse.makers("anna", [video.part_key])
    await rig.reuse.finished("anna", b"fingerprint")
    await rig.reuse.speed(pb.ENCODER_FAMILY_CPU, pb.Plan(width=1280, height=720))
    await rig.sql("UPDATE cached_parts SET renew = true")
    assert await rig.reuse.renew_parts(renewed) > 0
    await rig.sql("UPDATE cached_parts SET renew = true")
    assert await rig.reuse.renew_parts(vanished) > 0
    await rig.reuse.forget_old()
    await rig.reuse.discard("anna", [video.part_key])
    other = await long_export(rig)
    await rig.dispatch()
    await other.planned_again()


async def renewed(part: PartName) -> None:
    pass


async def vanished(part: PartName) -> None:
    raise DomainError(Reason.OBJECT_NOT_FOUND, "Gone.")


async def reconciler(rig: Rig, case: Case) -> None:
    """Do everything that the reconciler does."""
    housekeeping = rig.housekeeping
    await housekeeping.announce(published)
    await rig.sql("UPDATE exports SET expires_at = now() WHERE id = %s", case.id)
    assert await housekeeping.expire() == [case.id]
    with pytest.raises(DomainError):
        await housekeeping.delete_objects(not_deleted)
    await rig.sql("UPDATE object_deletions SET not_before = now()")
    await housekeeping.delete_objects(deleted)
    lost = await rig.create(lane=Lane.GPU)
    await rig.dispatch(Lane.GPU)
    [idle] = await housekeeping.idle_exports(Lane.GPU, LONG)
    choice = choose_family(pb.ENCODER_PREFERENCE_GPU, gpu_live=False)
    moved = Planned(PLAN, (whole_task(order_of(idle), INFO, PLAN, choice),))
    assert await housekeeping.leave_lane(Lane.GPU, LONG, lost.id, moved) is not None
    await rig.dispatch()
    await rig.sql("UPDATE tasks SET seen_at = now() - interval '2 hours'")
    silent: list[TaskRecord] = await housekeeping.silent_tasks(Lane.CPU, LONG)
    [moved_task] = [item for item in silent if item.id == moved.work[0].id]
    assert await housekeeping.requeue(moved_task, LONG)
    late = await rig.create()
    await rig.sql("UPDATE tasks SET not_before = now() - interval '2 hours'")
    assert late.id in [item.export_id for item in await housekeeping.overdue(LONG)]
    assert await housekeeping.give_up(late.id, LONG, pb.ExportError()) == GivenUp(())
    await housekeeping.forget_old()
    await housekeeping.queue_depths()
    await housekeeping.active_exports()
    await rig.backlog.read()


async def everything(rig: Rig) -> Statements:
    """Run every statement that the stores have."""
    with recorded(rig) as statements:
        case = await callers(rig)
        await encoders(rig, case)
        await parts(rig)
        await reconciler(rig, case)
    return statements


async def test_every_query_uses_an_index(rig: Rig) -> None:
    statements = await everything(rig)
    assert len(statements.executed) > 60
    assert await full_scans(rig, statements) == {}


async def test_every_method_of_the_stores_is_among_them(rig: Rig) -> None:
    called: set[str] = set()
    for store in (rig.exports, rig.tasks, rig.reuse, rig.backlog, rig.housekeeping):
        for name, method in vars(type(store)).items():
            if not name.startswith("_"):
                setattr(store, name, _noted(called, name, method.__get__(store)))
    await everything(rig)
    public = {
        name
        for kind in (ExportStore, TaskStore, ReuseStore, BacklogStore, Housekeeping)
        for name in vars(kind)
        if not name.startswith("_")
    }
    assert public - called == set()


def _noted(called: set[str], name: str, method: object) -> object:
    def call(*args: object, **kwargs: object) -> object:
        called.add(name)
        return method(*args, **kwargs)  # type: ignore[operator]

    return call


async def test_a_query_without_an_index_is_found(rig: Rig) -> None:
    with recorded(rig) as statements:
        async with rig.database.transaction() as connection:
            await connection.execute(text("SELECT 1 FROM exports WHERE phase = 'WAITING'"))
    [scans] = (await full_scans(rig, statements)).values()
    assert scans[0].startswith("Seq Scan on exports")


# Used by the foreign key's ON DELETE CASCADE, which EXPLAIN does not show.
CASCADES = {"tasks_export_idx"}


async def test_every_index_serves_a_query(database_url: str) -> None:
    # On a database of its own: the choice between two indexes follows what Postgres has
    # learnt of earlier rows.
    rig = Rig(database_url)
    statements = await everything(rig)
    # Which index is best shows only where there are rows: one user's, few of which failed.
    await rig.sql(
        "INSERT INTO exports (id, user_id, state, phase, source, video_id, source_etag,"
        " source_size_bytes, segments, settings, created_at)"
        " SELECT 'exp_' || n, 'anna', CASE mod(n, 200) WHEN 0 THEN 'FAILED' ELSE 'COMPLETED' END,"
        " 'UNSPECIFIED', '{}', 'vid_' || mod(n, 50), '', 0, '[]', '{}',"
        " now() - n * interval '1 minute'"
        " FROM generate_series(1, 2000) AS n"
    )
    await rig.sql(
        "INSERT INTO submissions (user_id, export_id, request_id, body_hash, created_at)"
        " SELECT 'user-' || mod(n, 20), 'exp_' || n, 'request-' || n, '',"
        " now() - n * interval '45 seconds'"
        " FROM generate_series(1, 2000) AS n"
    )
    await rig.sql("ANALYZE exports, submissions")
    with recorded(rig) as more:
        where = ListFilter("anna", states=(ExportState.FAILED,))
        await rig.exports.page(where, limit=2, before=None)
    statements.executed |= more.executed
    used = " ".join(line for lines in (await plans(rig, statements)).values() for line in lines)
    declared = {str(index.name) for table in metadata.tables.values() for index in table.indexes}
    assert {name for name in declared if f" {name} " not in used} - CASCADES == set()
    await rig.close()
