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

from services.api.chunks import ChunkLengths, borders, chunks_of
from services.api.store.records import NewTask
from services.common import ids
from services.common.content_key import Toolchain, VideoKeys, audio_key
from services.common.families import FamilyChoice
from services.common.frames import FrameRange, joined
from services.common.planner import DEFAULT_PIXELS_PER_SECOND
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# What the sound and the assembly of so many frames cost, in frames of pictures: measured
# with 720p at 25 frames a second, good enough to weigh them against each other.
FRAMES_PER_SOUND = 20
FRAMES_PER_JOIN = 50


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long a task's FFmpeg may run: a floor, and a multiple of what is estimated.

    Slow machines and hard material differ from the average by less than the factor.
    """

    floor: timedelta = timedelta(minutes=10)
    factor: float = 20

    def of(self, plan: pb.Plan, frame_count: int) -> Duration:
        """Return the limit for so many frames: by the CPU's speed, where a GPU's job may end up."""
        cpu_seconds = plan.width * plan.height * frame_count / DEFAULT_PIXELS_PER_SECOND
        limit = Duration()
        limit.FromTimedelta(self.floor + self.factor * timedelta(seconds=cpu_seconds))
        return limit


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made, and for whom.

    Attributes:
        export_id: empty where only its plan is asked for.
        generation: how often the parts of the export were made anew.
    """

    export_id: str
    user_id: str
    source: task_pb2.TaskSource
    segments: Sequence[pb.Segment]
    settings: pb.ExportSettings
    generation: int = 0
    limits: TimeLimits = TimeLimits()

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
    return _new(message, "WHOLE", choice.lane, plan.frame_count)


def copy_task(order: Order, finished: task_pb2.CopyTask, frame_count: int) -> NewTask:
    """Return the task that takes over the file of an identical export."""
    message = order.message()
    message.copy.CopyFrom(finished)
    return _new(message, "COPY", Lane.MUX, frame_count // FRAMES_PER_JOIN)


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
    chunks = _chunks(info, plan, chunk_seconds)
    video = _VideoTasks(order, info, plan, choice, tools)
    made = {chunk: video.of(chunk) for chunk in dict.fromkeys(chunks)}
    tasks = list(made.values())
    assembly = order.message()
    if plan.has_audio:
        sound = _audio_task(order, info, plan, tools)
        assembly.assemble.audio_key = sound.part_key or b""
        tasks.append(sound)
    for chunk in chunks:
        assembly.assemble.video.add(key=made[chunk].part_key or b"", frame_count=chunk.frame_count)
    assembly.assemble.plan.CopyFrom(plan)
    assembly.assemble.plan.ClearField("segments")
    assembly.assemble.family = choice.family
    assembly.assemble.family_reason = choice.reason
    assembly.assemble.time_limit.CopyFrom(order.limits.of(plan, plan.frame_count))
    return [*tasks, _new(assembly, "ASSEMBLE", Lane.MUX, plan.frame_count // FRAMES_PER_JOIN)]


def _chunks(info: pb.SourceInfo, plan: pb.Plan, chunk_seconds: float) -> list[FrameRange]:
    """Return the chunks of an output, in order; a range that is shown twice is there twice."""
    rate = Fraction(plan.frame_rate.numerator, plan.frame_rate.denominator)
    lengths = ChunkLengths.of(chunk_seconds, rate)
    places = borders(info, rate, lengths)
    return [
        chunk
        for span in joined(plan.segments)
        for chunk in chunks_of(span.start, span.end, places, lengths)
    ]


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
        )
        # Tens of thousands of them would go with every chunk of a long source.
        self._template.info.video.ClearField("keyframes")
        self._keys = VideoKeys(order.user_id, order.source, self._template, tools)

    def of(self, frames: FrameRange) -> NewTask:
        message = self._order.message()
        chunk = message.video.chunk
        chunk.CopyFrom(self._template)
        chunk.start_frame, chunk.end_frame = frames.start, frames.end
        before = bisect_right(self._places, frames.start)
        chunk.info.video.keyframes.extend(self._keyframes[max(0, before - 1) : before])
        message.video.tolerate_damage = True
        message.video.time_limit.CopyFrom(self._order.limits.of(self._plan, frames.frame_count))
        key = self._keys.of(frames.start, frames.end)
        return _new(message, "VIDEO", self._choice.lane, frames.frame_count, key)


def _audio_task(order: Order, info: pb.SourceInfo, plan: pb.Plan, tools: Toolchain) -> NewTask:
    message = order.message()
    track = message.audio.soundtrack
    track.info.CopyFrom(info)
    track.info.video.ClearField("keyframes")
    track.frame_rate.CopyFrom(plan.frame_rate)
    for span in joined(plan.segments):
        track.spans.add(start_frame=span.start, end_frame=span.end)
    track.generation = order.generation
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
