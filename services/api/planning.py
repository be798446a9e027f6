"""From a probed source and a request to a plan and its tasks, with what is there already."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from services.api.encoders import LiveEncoders
from services.api.settings import ApiSettings
from services.api.store import ReuseStore
from services.api.store.assembly import frames_made_of
from services.api.store.records import ExportRecord, NewTask, Planned
from services.api.work import Order, TimeLimits, copy_task, whole_task, work_in_parts
from services.common.content_key import (
    RECIPE_WITH_FIELDS,
    RECIPE_WITH_FIT,
    RECIPE_WITH_LOUDNESS,
    RECIPE_WITH_TIME_BREAKS,
    Toolchain,
    output_key,
)
from services.common.errors import DomainError, Reason
from services.common.families import FamilyChoice, choose_family
from services.common.planner import (
    DEFAULT_PIXELS_PER_SECOND,
    fraction_of,
    plan_export,
    processing_time,
)
from services.common.sound import lists_sound, with_sound_of
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


class ExportPlanner:
    """Plans exports for the encoders that are live."""

    def __init__(self, settings: ApiSettings, encoders: LiveEncoders, reuse: ReuseStore) -> None:
        self._settings = settings
        self._encoders = encoders
        self._reuse = reuse
        self._limits = TimeLimits(
            timedelta(seconds=settings.encode_limit_floor_seconds), settings.encode_limit_factor
        )

    async def plan(
        self,
        order: Order,
        info: pb.SourceInfo,
        *,
        choice: FamilyChoice | None = None,
        copies: bool = True,
        parts: bool = True,
    ) -> Planned:
        """Plan an export.

        Args:
            choice: the family to encode with; by default what is asked for and live.
            copies: whether it may take over the file of an identical export.
            parts: whether it may be made in parts; otherwise whole, however long it is.

        Raises:
            DomainError: INVALID_SEGMENTS, INVALID_REQUEST; STORE_UNAVAILABLE; NO_ENCODER where
                some are too old for what is asked for.
        """
        order = replace(order, limits=self._limits)
        if order.settings.HasField("audio_stream") and not lists_sound(info):
            raise DomainError(
                Reason.NO_ENCODER,
                "The encoder that has examined the source does not list its sound yet: encoders "
                "are being upgraded.",
            )
        plan = plan_export(info, order.segments, order.settings)
        info = with_sound_of(info, plan)
        if choice is None:
            choice = choose_family(order.settings.encoder, gpu_live=self._encoders.gpu_live())
        self._require(info, plan, choice.lane)
        tools = self._encoders.toolchain(choice.family)
        fingerprint = output_key(
            order.user_id, order.source, info, plan, choice.family, tools.build
        )
        finished = await self._reuse.finished(order.user_id, fingerprint) if copies else None
        warnings = choice.warnings
        if finished is not None:
            plan.reusable_frame_count = plan.frame_count
            copied, told = finished
            tasks = [copy_task(order, copied, plan.frame_count)]
            warnings = (*warnings, *told)
        elif parts and fraction_of(plan.duration) > self._settings.chunk_threshold_seconds:
            tasks = await self._parts(order, info, plan, choice, tools)
        else:
            tasks = [whole_task(order, info, plan, choice)]
        await self._estimate(plan, tasks, choice)
        return Planned(plan, tuple(tasks), warnings, fingerprint)

    def _require(self, info: pb.SourceInfo, plan: pb.Plan, lane: Lane) -> None:
        """Refuse what a live encoder would pass over in its task, while a release is rolled out."""
        wanted = []
        if plan.fit not in (pb.FIT_UNSPECIFIED, pb.FIT_PAD):
            wanted.append((RECIPE_WITH_FIT, lane, pb.Fit.Name(plan.fit)))
        if plan.HasField("loudness_lufs"):
            # Where it is made in parts, the sound and the assembly are for other encoders.
            wanted += [(RECIPE_WITH_LOUDNESS, each, "loudness_lufs") for each in (lane, Lane.MUX)]
        if info.video.field_order in (pb.FIELD_ORDER_TOP_FIRST, pb.FIELD_ORDER_BOTTOM_FIRST):
            wanted.append((RECIPE_WITH_FIELDS, lane, "interlaced sources"))
        if info.time_breaks:
            sources = "recordings whose clock jumps"
            wanted += [(RECIPE_WITH_TIME_BREAKS, each, sources) for each in (lane, Lane.MUX)]
        for recipe, taking, name in wanted:
            if self._encoders.oldest_recipe(taking) < recipe:
                raise DomainError(
                    Reason.NO_ENCODER,
                    f"Not every encoder knows {name} yet: they are being upgraded.",
                )

    async def _parts(
        self,
        order: Order,
        info: pb.SourceInfo,
        plan: pb.Plan,
        choice: FamilyChoice,
        tools: Toolchain,
    ) -> list[NewTask]:
        """Return the tasks of a long output, and note in its plan what is there already."""
        seconds = self._settings.chunk_seconds
        # Beside the loop: of a day's output it takes half a second.
        *parts, assembly = await asyncio.to_thread(
            work_in_parts, order, info, plan, choice, tools, seconds
        )
        keys = [part.part_key for part in parts if part.part_key is not None]
        makers = await self._reuse.makers(order.user_id, keys)
        others = {key for key, export_id in makers.items() if export_id != order.export_id}
        plan.chunk_count, plan.reusable_frame_count = frames_made_of(assembly.message, others)
        return [
            *(
                replace(part, made=part.part_key in makers, reused=part.part_key in others)
                for part in parts
            ),
            assembly,
        ]

    async def _estimate(self, plan: pb.Plan, tasks: list[NewTask], choice: FamilyChoice) -> None:
        """Say in a plan how long its tasks take on an idle cluster, at the measured speed."""
        speed = await self._reuse.speed(choice.family, plan)
        if speed is None:
            speed = DEFAULT_PIXELS_PER_SECOND / (plan.width * plan.height)
        *parts, last = tasks
        to_do = [part for part in parts if not part.made]
        pictures = sum(part.frames for part in to_do if part.lane == choice.lane)
        slots = max(1, self._encoders.slots(choice.lane))
        longest = max((part.frames for part in to_do), default=0)
        side_by_side = max(pictures / slots, longest)
        plan.estimated_processing_time.CopyFrom(
            processing_time(round(side_by_side) + last.frames, speed)
        )


def order_of(record: ExportRecord, *, generation: int | None = None) -> Order:
    """Return what a stored export is to make."""
    return Order(
        record.id,
        record.user_id,
        task_pb2.TaskSource(
            source=record.source, etag=record.source_etag, size_bytes=record.source_size_bytes
        ),
        record.segments,
        record.settings,
        record.generation if generation is None else generation,
    )
