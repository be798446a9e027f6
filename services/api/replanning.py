"""Exports whose tasks cannot go on as planned are planned again.

One way for all of it: parts that vanished or do not join, a GPU that fails or goes away,
a file to take over that is gone. The new plan finds by their keys whatever is made already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from services.api.planning import ExportPlanner, order_of
from services.api.settings import ApiSettings
from services.api.store import Housekeeping, ReuseStore, TaskStore
from services.api.store.records import ExportRecord, Planned, source_key
from services.api.store.tasks import Applied
from services.common.errors import TABLE, DomainError, Reason, as_sentence
from services.common.families import FamilyChoice
from services.common.smart_copy import NOT_COPIED
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

log = structlog.get_logger()

# A plan that leads to the same failure again and again is not made for ever.
MOST_REPLANS = 4
# An export whose parts so often did not join is made whole: encoders whose parts differ may do
# so for long, as while they are upgraded.
MOST_GENERATIONS = 2
# What fails as well where pictures are encoded.
NOT_OF_COPYING = (
    *(Reason.SOURCE_NOT_FOUND, Reason.SOURCE_CHANGED, Reason.SOURCE_UNAVAILABLE),
    *(Reason.STORAGE_UNAVAILABLE, Reason.SCRATCH_FULL, Reason.PART_MISSING),
    *(Reason.INVALID_SUBTITLES, Reason.DRAINING),
)
COPIES_DO_NOT_JOIN = as_sentence(
    f"{NOT_COPIED}: together with those that are encoded they could not be decoded"
)


class Replanner:
    """Plans exports again."""

    def __init__(
        self,
        settings: ApiSettings,
        tasks: TaskStore,
        reuse: ReuseStore,
        housekeeping: Housekeeping,
        planner: ExportPlanner,
    ) -> None:
        self._settings = settings
        self._tasks = tasks
        self._reuse = reuse
        self._housekeeping = housekeeping
        self._planner = planner

    async def after_failure(self, event: task_pb2.TaskEvent, reason: Reason) -> Applied | None:
        """Plan the export of a failed run again; None where the same task may be tried again.

        Raises:
            DomainError: STORE_UNAVAILABLE.
        """
        found = await self._tasks.find(event)
        if found is None:
            return None
        record, task = found
        if task.kind == "MEASURE":
            # The file is there, and would go with the tasks that have made it.
            return None
        message = task_pb2.Task.FromString(task.message)
        not_copied = self._not_copied(message, event.failed.message, reason, task.failures)
        # Copying is given up once, so that leads nowhere again and again.
        if record.replans >= MOST_REPLANS and not not_copied:
            return None
        copies = True
        choice: FamilyChoice | None
        if reason is Reason.GPU_FAILED:
            choice = _off_gpu(event.failed.message)
        elif not_copied:
            choice, record = None, _encoded(record, not_copied)
        elif reason in (Reason.PART_MISSING, Reason.PARTS_DIFFER):
            # What is made already is of this family.
            choice = FamilyChoice(message.assemble.family, message.assemble.family_reason)
        elif task.kind == "COPY" and self._is_last(reason, task.failures):
            choice, copies = None, False
        else:
            return None
        generation = record.generation + (1 if reason is Reason.PARTS_DIFFER else 0)
        # Before the plan is made, which would count on them.
        if reason is Reason.PARTS_DIFFER:
            await self._reuse.discard(record.user_id, _keys_of(message.assemble))
        else:
            missing = event.failed.missing_keys or _keys_of(message.assemble)
            await self._reuse.forget(record.user_id, missing)
        planned = await self._plan(record, choice, generation, copies=copies)
        if planned is None:
            return None
        applied = await self._tasks.planned_again(event, planned, generation=generation)
        if applied.changed:
            log.warning("planned again", reason=reason)
        return applied

    async def off_gpu(self, record: ExportRecord, silence: timedelta) -> Sequence[str] | None:
        """Plan an export for the CPU whose GPU is gone; return tasks that may be running.

        None when it is being worked on again.

        Raises:
            DomainError: STORE_UNAVAILABLE.
        """
        choice = _off_gpu("No GPU encoder was live any more, so the CPU encodes.")
        if record.settings.encoder != pb.ENCODER_PREFERENCE_GPU:
            choice = FamilyChoice(choice.family, choice.reason)
        planned = await self._plan(record, choice, record.generation)
        if planned is None:
            return None
        return await self._housekeeping.leave_lane(Lane.GPU, silence, record.id, planned)

    def _not_copied(self, task: task_pb2.Task, problem: str, reason: Reason, failures: int) -> str:
        """Return why pictures of a failed task are to be encoded although they were to be copied.

        As a sentence; empty where they are copied, or were not to be.
        """
        if pb.QUALITY_SOURCE not in (task.video.chunk.quality, task.assemble.plan.quality):
            return ""
        if reason is Reason.COPY_FAILED:
            return problem
        if reason is Reason.PARTS_DIFFER:
            return COPIES_DO_NOT_JOIN
        if reason in NOT_OF_COPYING or not self._is_last(reason, failures):
            return ""
        # Whatever it was: an encode reads the source otherwise and makes other parts.
        return as_sentence(f"{NOT_COPIED}: {problem}")

    def _is_last(self, reason: Reason, failures: int) -> bool:
        return not TABLE[reason].retryable or failures + 1 >= self._settings.task_attempts

    async def _plan(
        self,
        record: ExportRecord,
        choice: FamilyChoice | None,
        generation: int,
        *,
        copies: bool = True,
    ) -> Planned | None:
        key = source_key(record.user_id, record.source)
        info = await self._tasks.find_probe(key, record.source_etag)
        if info is None:
            log.error("source is not known any more", export_id=record.id)
            return None
        order = order_of(record, generation=generation)
        try:
            return await self._planner.plan(
                order, info, choice=choice, copies=copies, parts=generation < MOST_GENERATIONS
            )
        except DomainError as error:
            if error.reason is Reason.STORE_UNAVAILABLE:
                raise
            # What another encoder has told of the source since does not fit the request.
            log.error("cannot be planned again", export_id=record.id, reason=error.reason)
            return None


def _encoded(record: ExportRecord, why: str) -> ExportRecord:
    """Return an export whose pictures are not to be copied."""
    warning = pb.ExportWarning(code=Reason.COPY_NOT_POSSIBLE, message=why)
    return replace(record, warnings=(*record.warnings, warning))


def _off_gpu(message: str) -> FamilyChoice:
    warning = pb.ExportWarning(code=Reason.GPU_FALLBACK, message=message)
    return FamilyChoice(pb.ENCODER_FAMILY_CPU, message, (warning,))


def _keys_of(assembly: task_pb2.AssembleTask) -> list[bytes]:
    """Return the keys of the parts that are joined, each once."""
    keys = [*(part.key for part in assembly.video), assembly.audio_key]
    return [key for key in dict.fromkeys(keys) if key]
