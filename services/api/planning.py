"""From a probed source and a request to a plan and its tasks, with what is there already."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from services.api.encoders import LiveEncoders
from services.api.requirements import requirements
from services.api.settings import ApiSettings
from services.api.store import ReuseStore
from services.api.store.assembly import frames_made_of
from services.api.store.records import ExportRecord, NewTask, Planned
from services.api.work import Order, TimeLimits, copy_task, measure_task, whole_task, work_in_parts
from services.common.codecs import has_pictures, is_ten_bit, picture_work
from services.common.content_key import Toolchain, output_key
from services.common.errors import DomainError, Reason, as_sentence
from services.common.examined import knows_enough
from services.common.families import SOUND_ALONE, FamilyChoice, choose_family
from services.common.planner import DEFAULT_PIXELS_PER_SECOND, fraction_of, processing_time
from services.common.smart_copy import forget_copying, plan_with_copies
from services.common.sound import with_sound_of
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

BESIDE_COPIES = FamilyChoice(
    pb.ENCODER_FAMILY_CPU, "Pictures beside those that are copied are encoded on the CPU."
)


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
            parts: whether it may be made in parts; otherwise whole, however long it is, unless
                pictures of the source are copied.

        Raises:
            DomainError: INVALID_SEGMENTS, INVALID_REQUEST; STORE_UNAVAILABLE; NO_ENCODER where
                some are too old for what is asked for.
        """
        order = replace(order, limits=self._limits)
        if not knows_enough(info, order.settings):
            raise DomainError(
                Reason.NO_ENCODER,
                "The encoder that has examined the source does not tell all of it yet: encoders "
                "are being upgraded.",
            )
        plan, warnings = plan_with_copies(info, order.segments, order.settings, order.not_copied)
        info = with_sound_of(info, plan)
        copying = plan.quality == pb.QUALITY_SOURCE
        if copying:
            choice = BESIDE_COPIES
        else:
            forget_copying(info.video)
        if choice is None:
            choice = self._choose(order.settings.encoder, info, plan)
        self._require(info, plan, choice.lane)
        self._require_codec(choice.family, info, plan)
        tools = self._encoders.toolchain(choice.family)
        fingerprint = output_key(
            order.user_id, order.source, info, plan, choice.family, tools.build
        )
        finished = await self._reuse.finished(order.user_id, fingerprint) if copies else None
        if finished is not None:
            plan.reusable_frame_count = plan.frame_count
            copied, known = finished
            tasks = [copy_task(order, copied, plan.frame_count, plan.format)]
            warnings = (*warnings, *known)
        elif copying or (
            parts
            # Sound alone is soon made, however long it is.
            and has_pictures(plan.format)
            and fraction_of(plan.duration) > self._settings.chunk_threshold_seconds
        ):
            tasks = await self._parts(order, info, plan, choice, tools)
        else:
            tasks = [whole_task(order, info, plan, choice)]
        measuring = _measuring(order, info, plan, finished[0] if finished else None)
        await self._estimate(plan, tasks, measuring, choice)
        told = (*choice.warnings, *warnings)
        return Planned(plan, (*tasks, *measuring), told, fingerprint)

    def _choose(
        self, preference: pb.EncoderPreference.ValueType, info: pb.SourceInfo, plan: pb.Plan
    ) -> FamilyChoice:
        """Return the family for a plan: the GPU where every live one can make it."""
        if not has_pictures(plan.format):
            return SOUND_ALONE
        problem = self._codec_problem(pb.ENCODER_FAMILY_NVENC, info, plan)
        live = self._encoders.gpu_live()
        return choose_family(preference, gpu_live=live, gpu_problem=problem)

    def _codec_problem(
        self, family: pb.EncoderFamily.ValueType, info: pb.SourceInfo, plan: pb.Plan
    ) -> str | None:
        ten_bit = is_ten_bit(info.video, plan.dynamic_range)
        return self._encoders.codec_problem(family, plan.video_codec, ten_bit=ten_bit)

    def _require_codec(
        self, family: pb.EncoderFamily.ValueType, info: pb.SourceInfo, plan: pb.Plan
    ) -> None:
        """Refuse what a live encoder of the family cannot make."""
        if has_pictures(plan.format) and (problem := self._codec_problem(family, info, plan)):
            raise DomainError(Reason.NO_ENCODER, as_sentence(problem))

    def _require(self, info: pb.SourceInfo, plan: pb.Plan, lane: Lane) -> None:
        """Refuse what a live encoder would pass over in its task, while a release is rolled out."""
        for wanted in requirements(info, plan, lane):
            if self._encoders.oldest_recipe(wanted.lane) < wanted.recipe:
                raise DomainError(
                    Reason.NO_ENCODER,
                    f"Not every encoder knows {wanted.name} yet: they are being upgraded.",
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

    async def _estimate(
        self,
        plan: pb.Plan,
        tasks: list[NewTask],
        measuring: list[NewTask],
        choice: FamilyChoice,
    ) -> None:
        """Say in a plan how long its tasks take on an idle cluster, at the measured speed."""
        speed = await self._reuse.speed(choice.family, plan)
        if speed is None:
            speed = DEFAULT_PIXELS_PER_SECOND / picture_work(
                *(plan.width, plan.height, plan.video_codec)
            )
        *parts, last = tasks
        to_do = [part for part in parts if not part.made]
        pictures = sum(part.frames for part in to_do if part.lane == choice.lane)
        slots = max(1, self._encoders.slots(choice.lane))
        longest = max((part.frames for part in to_do), default=0)
        side_by_side = max(pictures / slots, longest)
        frames = round(side_by_side) + last.frames + sum(task.frames for task in measuring)
        plan.estimated_processing_time.CopyFrom(processing_time(frames, speed))


def _measuring(
    order: Order, info: pb.SourceInfo, plan: pb.Plan, finished: task_pb2.CopyTask | None
) -> list[NewTask]:
    """Return the task that measures an output, unless that is not wanted or was done before."""
    known = finished is not None and finished.output.verification.HasField("quality")
    return [measure_task(order, info, plan)] if plan.measure_quality and not known else []


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
        not_copied=next(
            (item.message for item in record.warnings if item.code == Reason.COPY_NOT_POSSIBLE), ""
        ),
    )
