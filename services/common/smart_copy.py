"""What of an export is copied from its source as it is, where QUALITY_SOURCE asks for it. Pure.

Copied are runs of whole groups of pictures: from a keyframe on that needs nothing before it up
to another, or to the source's end. What lies between them and the ends of segments is encoded.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from services.common.errors import Reason, as_sentence
from services.common.frames import FrameRange, joined
from services.common.planner import AUDIO_BITS_PER_SECOND, fraction_of, plan_export
from videoexport.v1 import export_pb2 as pb

# What a person is told of pictures that are encoded although they were to be copied.
NOT_COPIED = "the source's pictures are encoded instead of copied"


def is_examined(info: pb.SourceInfo) -> bool:
    """Return whether it is known if pictures can be copied; versions of before did not tell."""
    return bool(info.video.avc_configuration or info.video.copy_obstacle)


def copied_run(video: pb.VideoStream, span: FrameRange) -> FrameRange | None:
    """Return the frames of a span that whole groups of pictures fill; None where there are none."""
    first = bisect_left(video.keyframes, span.start)
    if first == len(video.keyframes) or video.keyframes[first] >= span.end:
        return None
    end = span.end
    if end != video.frame_count:
        end = video.keyframes[bisect_right(video.keyframes, end) - 1]
    start = video.keyframes[first]
    return FrameRange(start, end) if start < end else None


def plan_with_copies(
    info: pb.SourceInfo,
    segments: Sequence[pb.Segment],
    settings: pb.ExportSettings,
    not_copied: str = "",
) -> tuple[pb.Plan, tuple[pb.ExportWarning, ...]]:
    """Return the plan of an export, and a warning where it is encoded although it was to be copied.

    Args:
        not_copied: why it is not copied, as a sentence, where that is known already.

    Raises:
        DomainError: as `plan_export`.
    """
    plan = plan_export(info, segments, settings)
    if plan.quality != pb.QUALITY_SOURCE:
        return plan, ()
    runs = [copied_run(info.video, span) for span in joined(plan.segments)]
    plan.copied_frame_count = sum(run.frame_count for run in runs if run is not None)
    if not not_copied and (problem := _problem(info.video, plan)):
        not_copied = as_sentence(f"{NOT_COPIED}: {problem}")
    if not_copied:
        warning = pb.ExportWarning(code=Reason.COPY_NOT_POSSIBLE, message=not_copied)
        return plan_export(info, segments, encoded_instead(settings)), (warning,)
    sound = AUDIO_BITS_PER_SECOND if plan.has_audio else 0
    bits = (info.video.bit_rate + sound) * fraction_of(plan.duration)
    plan.estimated_size_bytes = int(bits / 8)
    return plan, ()


def _problem(video: pb.VideoStream, plan: pb.Plan) -> str:
    """Return why pictures cannot be copied into what is planned, as a clause."""
    if video.copy_obstacle:
        return video.copy_obstacle
    if not video.avc_configuration:
        return "an older version has examined the source"
    if (plan.width, plan.height) != (video.width, video.height):
        return (
            f"they have {video.width} × {video.height} pixels, "
            f"and {plan.width} × {plan.height} are asked for"
        )
    if plan.frame_rate != video.frame_rate:
        return "another frame rate than theirs is asked for"
    if not plan.copied_frame_count:
        return "no segment holds a whole group of them"
    return ""


def encoded_instead(settings: pb.ExportSettings) -> pb.ExportSettings:
    """Return the settings of an export that was to be copied and is encoded."""
    changed = pb.ExportSettings()
    changed.CopyFrom(settings)
    changed.quality = pb.QUALITY_HIGH
    changed.resolution = settings.resolution or pb.RESOLUTION_SOURCE
    return changed


def forget_copying(video: pb.VideoStream) -> None:
    """Leave out of a source what only copying needs: nothing else may have another key by it."""
    for name in ("avc_configuration", "copy_obstacle", "reordered_frames"):
        video.ClearField(name)
