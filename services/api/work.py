"""From an export to the tasks that make it. Pure: the message of a task is its whole input.

A short output is made whole, in one run. A long one is made in parts, side by side: the
pictures in chunks, the sound in one piece, and at last their assembly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction

from google.protobuf.duration_pb2 import Duration

from services.api.chunks import Piece, pieces_of
from services.api.measuring import compared_frames, compared_spans
from services.api.store.records import NewTask
from services.common import ids
from services.common.codecs import container_of, picture_work
from services.common.content_key import Toolchain, VideoKeys, audio_key
from services.common.families import FamilyChoice
from services.common.frames import joined
from services.common.planner import DEFAULT_PIXELS_PER_SECOND, FRAMES_PER_SOUND, frames_to_make
from services.common.smart_copy import forget_copying
from services.common.subjects import Lane
from services.common.subtitles import burnt_stream
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# What the assembly of so many frames costs, in frames of pictures, as FRAMES_PER_SOUND.
FRAMES_PER_JOIN = 50
# And those that are copied.
FRAMES_PER_COPY = 50


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long a task's FFmpeg may run: a floor, and a multiple of what is estimated.

    Slow machines and hard material differ from the average by less than the factor.
    """

    floor: timedelta = timedelta(minutes=10)
    factor: float = 20

    def of(self, plan: pb.Plan, frame_count: int) -> Duration:
        """Return the limit for so many frames: by the CPU's speed, where a GPU's job may end up."""
        work = picture_work(plan.width, plan.height, plan.video_codec)
        cpu_seconds = work * frame_count / DEFAULT_PIXELS_PER_SECOND
        limit = Duration()
        limit.FromTimedelta(self.floor + self.factor * timedelta(seconds=cpu_seconds))
        return limit


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made, and for whom.

    Attributes:
        export_id: empty where only its plan is asked for.
        generation: how often the parts of the export were made anew.
        not_copied: why pictures are not copied although that is asked for, as a sentence, where
            it is known from before.
    """

    export_id: str
    user_id: str
    source: task_pb2.TaskSource
    segments: Sequence[pb.Segment]
    settings: pb.ExportSettings
    generation: int = 0
    limits: TimeLimits = TimeLimits()
    not_copied: str = ""

    def message(self) -> task_pb2.Task:
        """Return a new task of it, without its work."""
        return task_pb2.Task(
            task_id=ids.task_id(),
            export_id=self.export_id,
            user_id=self.user_id,
            source=self.source,
        )


def probe_task(export_id: str, user_id: str, source: task_pb2.TaskSource) -> NewTask:
    """Return the task that examines the source of an export."""
    message = Order(export_id, user_id, source, (), pb.ExportSettings()).message()
    message.probe.SetInParent()
    return NewTask(message.task_id, "PROBE", Lane.PROBE, message.SerializeToString(), frames=0)


def whole_task(order: Order, info: pb.SourceInfo, plan: pb.Plan, choice: FamilyChoice) -> NewTask:
    """Return the task that makes the whole output in one FFmpeg run."""
    message = order.message()
    message.whole.info.CopyFrom(info)
    message.whole.plan.CopyFrom(plan)
    message.whole.family = choice.family
    message.whole.family_reason = choice.reason
    message.whole.tolerate_damage = True
    message.whole.time_limit.CopyFrom(order.limits.of(plan, plan.frame_count))
    return _new(message, "WHOLE", choice.lane, frames_to_make(plan))


def copy_task(
    order: Order, finished: task_pb2.CopyTask, frame_count: int, form: pb.Format.ValueType
) -> NewTask:
    """Return the task that takes over the file of an identical export."""
    message = order.message()
    message.copy.CopyFrom(finished)
    message.copy.format = form
    return _new(message, "COPY", Lane.MUX, frame_count // FRAMES_PER_JOIN)


def measure_task(order: Order, info: pb.SourceInfo, plan: pb.Plan) -> NewTask:
    """Return the task that compares the output with its source, once there is one."""
    message = order.message()
    work = message.measure
    work.info.CopyFrom(info)
    work.plan.CopyFrom(plan)
    rate = Fraction(plan.frame_rate.numerator, plan.frame_rate.denominator)
    for span in compared_spans(plan.frame_count, rate):
        work.spans.add(start_frame=span.start, end_frame=span.end)
    compared = compared_frames(plan.frame_count, rate)
    work.time_limit.CopyFrom(order.limits.of(plan, compared))
    return _new(message, "MEASURE", Lane.CPU, compared)


def work_in_parts(
    order: Order,
    info: pb.SourceInfo,
    plan: pb.Plan,
    choice: FamilyChoice,
    tools: Toolchain,
    chunk_seconds: float,
) -> list[NewTask]:
    """Return the tasks of a long output: its distinct chunks, its sound, its assembly.

    Args:
        tools: of the encoders that are expected to take them; one with other tools stores
            its parts under other keys, which it tells.
    """
    chunks = pieces_of(info, plan, chunk_seconds)
    video = _VideoTasks(order, info, plan, choice, tools)
    made = {chunk: video.of(chunk) for chunk in dict.fromkeys(chunks)}
    tasks = list(made.values())
    assembly = order.message()
    if plan.has_audio:
        sound = _audio_task(order, info, plan, tools)
        assembly.assemble.audio_key = sound.part_key or b""
        tasks.append(sound)
    for chunk in chunks:
        assembly.assemble.video.add(
            key=made[chunk].part_key or b"",
            frame_count=chunk.frames.frame_count,
            copied=chunk.copied,
        )
    assembly.assemble.plan.CopyFrom(plan)
    assembly.assemble.plan.ClearField("segments")
    if plan.subtitles.mode == pb.SUBTITLE_MODE_KEEP:
        kept = assembly.assemble.subtitles
        kept.info.CopyFrom(info)
        kept.info.video.ClearField("keyframes")
        kept.spans.extend(_spans(plan))
    assembly.assemble.family = choice.family
    assembly.assemble.family_reason = choice.reason
    assembly.assemble.time_limit.CopyFrom(order.limits.of(plan, plan.frame_count))
    return [*tasks, _new(assembly, "ASSEMBLE", Lane.MUX, plan.frame_count // FRAMES_PER_JOIN)]


class _VideoTasks:
    """Tasks for chunks that differ in their frames alone."""

    def __init__(
        self,
        order: Order,
        info: pb.SourceInfo,
        plan: pb.Plan,
        choice: FamilyChoice,
        tools: Toolchain,
    ) -> None:
        self._order, self._plan, self._choice = order, plan, choice
        rate = Fraction(plan.frame_rate.numerator, plan.frame_rate.denominator)
        own = Fraction(info.video.frame_rate.numerator, info.video.frame_rate.denominator)
        self._keyframes = list(info.video.keyframes)
        self._places = [frame * rate / own for frame in self._keyframes]
        self._template = task_pb2.VideoChunk(
            info=info,
            frame_rate=plan.frame_rate,
            width=plan.width,
            height=plan.height,
            fit=plan.fit,
            quality=plan.quality,
            family=choice.family,
            generation=order.generation,
            video_codec=plan.video_codec,
            dynamic_range=plan.dynamic_range,
            burnt_subtitles=burnt_stream(plan),
            watermark=plan.watermark if plan.HasField("watermark") else None,
        )
        # Tens of thousands of them would go with every chunk of a long source.
        self._template.info.video.ClearField("keyframes")
        self._keys = VideoKeys(order.user_id, order.source, self._template, tools)

    def of(self, piece: Piece) -> NewTask:
        frames = piece.frames
        message = self._order.message()
        chunk = message.video.chunk
        chunk.CopyFrom(self._template)
        chunk.start_frame, chunk.end_frame, chunk.copied = frames.start, frames.end, piece.copied
        before = bisect_right(self._places, frames.start)
        chunk.info.video.keyframes.extend(self._keyframes[max(0, before - 1) : before])
        message.video.tolerate_damage = True
        message.video.time_limit.CopyFrom(self._order.limits.of(self._plan, frames.frame_count))
        key = self._keys.of(frames.start, frames.end, copied=piece.copied)
        # In the same lane, for the sound may take the one of the muxers for longer.
        work = frames.frame_count // (FRAMES_PER_COPY if piece.copied else 1)
        return _new(message, "VIDEO", self._choice.lane, work, key)


def _spans(plan: pb.Plan) -> list[task_pb2.FrameSpan]:
    """Return what an output shows, in its order."""
    return [
        task_pb2.FrameSpan(start_frame=span.start, end_frame=span.end)
        for span in joined(plan.segments)
    ]


def _audio_task(order: Order, info: pb.SourceInfo, plan: pb.Plan, tools: Toolchain) -> NewTask:
    message = order.message()
    track = message.audio.soundtrack
    track.info.CopyFrom(info)
    track.info.video.ClearField("keyframes")
    forget_copying(track.info.video)
    track.frame_rate.CopyFrom(plan.frame_rate)
    track.spans.extend(_spans(plan))
    track.generation = order.generation
    track.codec = container_of(plan.format).audio_codec
    if plan.HasField("loudness_lufs"):
        track.loudness_lufs = plan.loudness_lufs
    message.audio.tolerate_damage = True
    message.audio.time_limit.CopyFrom(order.limits.of(plan, plan.frame_count))
    key = audio_key(order.user_id, order.source, track, tools)
    return _new(message, "AUDIO", Lane.MUX, plan.frame_count // FRAMES_PER_SOUND, key)


def _new(
    message: task_pb2.Task, kind: str, lane: Lane, frames: int, key: bytes | None = None
) -> NewTask:
    return NewTask(message.task_id, kind, lane, message.SerializeToString(), max(1, frames), key)
