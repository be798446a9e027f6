"""Orders, and exports that were stored as they were planned, for tests of planning."""

from __future__ import annotations

from datetime import timedelta

from api_long import LongCase
from api_rig import NO_QUOTAS, OUTPUT, SOURCE, Rig

from services.api.store.records import NewExport, Planned, Submission
from services.api.work import Order
from services.common import ids
from services.common.content_key import RECIPE_VERSION
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

VERSION = task_pb2.TaskSource(source=SOURCE, etag="etag", size_bytes=1000)


def order(*segments: pb.Segment, export_id: str = "", user: str = "anna") -> Order:
    return Order(export_id, user, VERSION, segments, pb.ExportSettings())


def kinds(planned: Planned) -> set[str]:
    return {task.kind for task in planned.work}


async def stored(rig: Rig, planned: Planned) -> LongCase:
    """Store an export of anna's as it was planned."""
    new = NewExport(
        id=ids.export_id(),
        user_id="anna",
        source=SOURCE,
        source_etag="etag",
        source_size_bytes=1000,
        segments=(),
        settings=pb.ExportSettings(),
        priority=0,
        plan=planned.plan,
        fingerprint=planned.fingerprint,
    )
    record = await rig.exports.create(new, planned.work, Submission(None, b""), NO_QUOTAS)
    return LongCase(rig, record, planned)


async def finish_whole(rig: Rig, case: LongCase, *, recipe: int = RECIPE_VERSION) -> None:
    done = task_pb2.TaskSucceeded(output=OUTPUT, recipe_version=recipe)
    event = case.event("run_whole", task=case.work[0].id, succeeded=done)
    assert (await rig.tasks.output_succeeded(event, retention=timedelta(days=30))).changed
