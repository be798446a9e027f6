"""How long FFmpeg would take for a task, and what it would leave. Pure."""

from __future__ import annotations

from fractions import Fraction
from hashlib import sha256

from services.encoder.inspection.output_facts import OutputFacts
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# Seconds of encoding for a second of pictures: a chunk of 8 s takes 4 to 8 s.
LEAST_PER_SECOND, MOST_PER_SECOND = 0.5, 1.0
# Sound is encoded at a hundred times its speed; joining copies what is there.
SOUND_PER_SECOND = 0.01
JOIN_SECONDS = 0.2
JOIN_PER_SECOND = 0.002
OBJECT_BYTES = 1024


def frames_of(task: task_pb2.Task) -> int:
    """Return how many frames of the output a task is about; 0 for a probe."""
    match task.WhichOneof("work"):
        case "whole":
            return task.whole.plan.frame_count
        case "video":
            return task.video.chunk.end_frame - task.video.chunk.start_frame
        case "audio":
            return sum(span.end_frame - span.start_frame for span in task.audio.soundtrack.spans)
        case "assemble":
            return task.assemble.plan.frame_count
        case _:
            return 0


def rate_of(task: task_pb2.Task) -> Fraction:
    """Return the frames per second of a task's output."""
    match task.WhichOneof("work"):
        case "whole":
            rate = task.whole.plan.frame_rate
        case "video":
            rate = task.video.chunk.frame_rate
        case "audio":
            rate = task.audio.soundtrack.frame_rate
        case "assemble":
            rate = task.assemble.plan.frame_rate
        case _:
            rate = pb.Rational(numerator=1, denominator=1)
    return Fraction(rate.numerator, rate.denominator)


def ffmpeg_seconds(task: task_pb2.Task) -> float:
    """Return how long FFmpeg takes for a task, always the same for the same one.

    Material differs: pictures take anything between the two paces, evenly spread.
    """
    duration = float(frames_of(task) / rate_of(task))
    match task.WhichOneof("work"):
        case "whole" | "video":
            spread = MOST_PER_SECOND - LEAST_PER_SECOND
            return duration * (LEAST_PER_SECOND + spread * _chance(task.task_id))
        case "audio":
            return duration * SOUND_PER_SECOND
        case "assemble":
            return JOIN_SECONDS + duration * JOIN_PER_SECOND
        case _:
            return 0.0


def facts_of(task: task_pb2.Task) -> OutputFacts:
    """Return what would be in the file of a task, exactly as planned."""
    duration = frames_of(task) / rate_of(task)
    frames, width, height = frames_of(task), 0, 0
    sound: Fraction | None = None
    keyframes = 0
    match task.WhichOneof("work"):
        case "whole":
            width, height = task.whole.plan.width, task.whole.plan.height
            sound = duration if task.whole.plan.has_audio else None
        case "video":
            width, height = task.video.chunk.width, task.video.chunk.height
        case "audio":
            frames, sound = 0, duration
        case "assemble":
            width, height = task.assemble.plan.width, task.assemble.plan.height
            sound = duration if task.assemble.plan.has_audio else None
            keyframes = len(task.assemble.video)
    return OutputFacts(
        size_bytes=OBJECT_BYTES,
        frame_count=frames,
        duration=duration if frames else Fraction(0),
        audio_duration=sound,
        width=width,
        height=height,
        index_in_front=True,
        # As H.264 of a source is that is HD and says nothing of its colours.
        codec="h264",
        pixel_format="yuv420p",
        color_primaries="bt709",
        color_transfer="bt709",
        color_space="bt709",
        color_range="tv",
        keyframes_decoded=keyframes,
    )


def _chance(name: str) -> float:
    """Return a number from 0 to 1 that a name always has."""
    return int.from_bytes(sha256(name.encode()).digest()[:4]) / 2**32
