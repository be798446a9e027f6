"""Exports in parts, and what encoders say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from api_rig import NO_QUOTAS, RETENTION, SOURCE, Rig

from services.api.planning import order_of
from services.api.store.records import ExportRecord, NewExport, NewTask, Planned, Submission
from services.api.store.tasks import Applied
from services.api.work import Order, work_in_parts
from services.common import ids
from services.common.content_key import RECIPE_VERSION, Toolchain
from services.common.families import FamilyChoice
from services.common.planner import plan_export
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

TOOLS = Toolchain("build", 2)
CPU = FamilyChoice(pb.ENCODER_FAMILY_CPU, "The CPU was requested.")
GPU = FamilyChoice(pb.ENCODER_FAMILY_NVENC, "A GPU encoder is live.")
# Chunks of 8 s: 96 s make twelve of them.
LONG_INFO = pb.SourceInfo(
    container="mov,mp4",
    etag="etag",
    video=pb.VideoStream(
        frame_rate=pb.Rational(numerator=25, denominator=1),
        frame_count=2400,
        width=1280,
        height=720,
    ),
    audio=pb.AudioStream(index=1, sample_rate=48_000, channels=2),
)


def seconds(start: float, end: float) -> pb.Segment:
    """Return a segment."""
    segment = pb.Segment()
    segment.start_time.FromNanoseconds(round(start * 1e9))
    segment.end_time.FromNanoseconds(round(end * 1e9))
    return segment


class LongCase:
    """One stored export in parts."""

    def __init__(self, rig: Rig, record: ExportRecord, planned: Planned) -> None:
        self.rig, self.record, self.planned = rig, record, planned
        self.id, self.user = record.id, record.user_id
        self.work = planned.work
        self._runs = 0

    @property
    def video(self) -> list[NewTask]:
        """Its chunks."""
        return [task for task in self.work if task.kind == "VIDEO"]

    @property
    def audio(self) -> NewTask:
        """Its sound."""
        [task] = [task for task in self.work if task.kind == "AUDIO"]
        return task

    @property
    def assembly(self) -> NewTask:
        """What joins them."""
        return self.work[-1]

    def event(self, run: str, *, task: str, attempt: int = 1, **kind: Any) -> task_pb2.TaskEvent:
        """Return an event of a run of a task."""
        return task_pb2.TaskEvent(
            task_id=task,
            attempt=attempt,
            run_id=run,
            export_id=self.id,
            encoder_id="encoder-1",
            user_id=self.user,
            **kind,
        )

    def run(self) -> str:
        """Return the id of another run."""
        self._runs += 1
        return f"run_{self.id[-6:]}_{self._runs}"

    async def begun(self, task: NewTask, run: str, *, attempt: int = 1) -> Applied:
        """Apply that a run of a task has begun."""
        begun = task_pb2.TaskStarted(delivery_count=1)
        return await self.rig.tasks.started(
            self.event(run, task=task.id, attempt=attempt, started=begun)
        )

    async def made(
        self,
        task: NewTask,
        *,
        key: bytes | None = None,
        found: bool = False,
        fps: float = 0,
        attempt: int = 1,
        warnings: Sequence[pb.ExportWarning] = (),
        recipe: int = RECIPE_VERSION,
    ) -> Applied:
        """Apply that a part is stored."""
        part = task_pb2.StoredPart(key=key or task.part_key or b"", size_bytes=9, found=found)
        done = task_pb2.TaskSucceeded(
            part=part, frames_per_second=fps, warnings=warnings, recipe_version=recipe
        )
        event = self.event(self.run(), task=task.id, attempt=attempt, succeeded=done)
        return await self.rig.tasks.part_succeeded(event)

    async def make_parts(self) -> None:
        """Let every part be made that is not there yet."""
        for task in self.work[:-1]:
            if not task.made:
                await self.made(task)

    async def ready_to_join(self) -> None:
        """Let every part be made, and the assembly be sent out."""
        await self.rig.dispatch()
        await self.make_parts()
        await self.rig.dispatch()

    async def joined(self, run: str = "run_joined", *, attempt: int = 1) -> Applied:
        """Apply that the parts are joined."""
        output = pb.Output(frame_count=self.planned.plan.frame_count, size_bytes=99)
        done = task_pb2.TaskSucceeded(output=output, recipe_version=RECIPE_VERSION)
        event = self.event(run, task=self.assembly.id, attempt=attempt, succeeded=done)
        return await self.rig.tasks.output_succeeded(event, retention=RETENTION)

    async def finish(self, run: str | None = None) -> ExportRecord:
        """Let everything be made."""
        await self.ready_to_join()
        await self.joined(run or self.run())
        return await self.now()

    async def planned_again(self, task: NewTask | None = None) -> Applied:
        """Apply that a run failed and the export was planned again."""
        record = await self.now()
        tasks = work_in_parts(
            order_of(record), LONG_INFO, self.planned.plan, CPU, TOOLS, chunk_seconds=8
        )
        planned = replace(self.planned, work=await marked(self.rig, record.id, tasks))
        failed = task_pb2.TaskFailed(code="PART_MISSING", message="Gone.")
        event = self.event(self.run(), task=(task or self.assembly).id, failed=failed)
        applied = await self.rig.tasks.planned_again(event, planned, generation=0)
        if applied.changed:
            self.planned, self.work = planned, planned.work
        return applied

    async def now(self) -> ExportRecord:
        """Return the export as it is stored."""
        return await self.rig.exports.get(self.id, self.user)

    async def states(self) -> list[str]:
        """Return the states of its tasks, in their order."""
        rows = await self.rig.sql("SELECT id, state FROM tasks WHERE export_id = %s", self.id)
        found = {row["id"]: row["state"] for row in rows}
        return [found[task.id] for task in self.work]


async def marked(rig: Rig, export_id: str, tasks: Sequence[NewTask]) -> tuple[NewTask, ...]:
    """Return tasks of anna's with those marked whose parts are there."""
    keys = [task.part_key for task in tasks if task.part_key is not None]
    makers = await rig.reuse.makers("anna", keys)
    return tuple(
        replace(
            task,
            made=task.part_key in makers,
            reused=makers.get(task.part_key or b"", export_id) != export_id,
        )
        for task in tasks
    )


async def long_export(
    rig: Rig,
    *segments: pb.Segment,
    user: str = "anna",
    choice: FamilyChoice = CPU,
    priority: int = 0,
    fingerprint: bytes | None = None,
) -> LongCase:
    """Store an export in parts; of a whole source of 96 s unless segments are given."""
    export_id = ids.export_id()
    version = task_pb2.TaskSource(source=SOURCE, etag="etag", size_bytes=1000)
    order = Order(export_id, user, version, segments, pb.ExportSettings())
    plan = plan_export(LONG_INFO, segments, order.settings)
    tasks = work_in_parts(order, LONG_INFO, plan, choice, TOOLS, chunk_seconds=8)
    work = await marked(rig, export_id, tasks) if user == "anna" else tuple(tasks)
    new = NewExport(
        id=export_id,
        user_id=user,
        source=SOURCE,
        source_etag="etag",
        source_size_bytes=1000,
        segments=segments,
        settings=order.settings,
        priority=priority,
        plan=plan,
        fingerprint=fingerprint,
    )
    record = await rig.exports.create(new, work, Submission(None, b"body"), NO_QUOTAS)
    return LongCase(rig, record, Planned(plan, work, (), fingerprint))
