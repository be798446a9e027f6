"""From the tasks of the queue to the FFmpeg runs that do them. Pure: no I/O."""

from __future__ import annotations

from pathlib import Path

from services.common.codecs import has_pictures
from services.common.frames import FrameRange, joined
from services.common.subtitles import burnt_stream
from services.encoder.commands.codecs import video_codec
from services.encoder.commands.containers import form_of_sound
from services.encoder.commands.cues import Cues, shown
from services.encoder.commands.extras import NO_EXTRAS, Extras
from services.encoder.commands.ffmpeg_command import FfmpegCommand, Site
from services.encoder.commands.job import Job, commands_of, timeline_of
from services.encoder.commands.options import devices, global_options
from services.encoder.commands.picture import picture_filters
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


def whole_commands(
    *,
    site: Site,
    info: pb.SourceInfo,
    plan: pb.Plan,
    family: pb.EncoderFamily.ValueType,
    subtitles: Cues | None = None,
) -> tuple[FfmpegCommand, ...]:
    """Return the runs that make the whole output, in order; the last one's output is it.

    A draft of it, where its sound is to have a certain loudness, which has yet to be measured.

    That is one run, from the source to the finished file. Only where segments
    jump about the source so often that the inputs of one run would not fit in
    memory are there more: parts with pictures encoded and sound uncompressed, then
    one that joins them, copying the pictures and encoding the sound once.

    Args:
        subtitles: of the source, where the output has any.
    """
    draft = plan.HasField("loudness_lufs")
    ranges = [FrameRange(segment.start_frame, segment.end_frame) for segment in plan.segments]
    timeline = timeline_of(info, plan.frame_rate)
    return commands_of(
        Job(
            *(site, info, timeline, ranges, family),
            picture=plan if has_pictures(plan.format) else None,
            sound=plan.has_audio,
            form=plan.format,
            draft=draft,
            extras=NO_EXTRAS if draft else extras_of(info, plan, subtitles),
            burnt=None if burnt_stream(plan) is None else subtitles,
        )
    )


def extras_of(info: pb.SourceInfo, plan: pb.Plan, subtitles: Cues | None) -> Extras:
    """Return what goes into a whole output beside pictures and sound.

    Args:
        subtitles: of the source, where the output has any.
    """
    extras = Extras.of(plan)
    if subtitles is None or plan.subtitles.mode != pb.SUBTITLE_MODE_KEEP:
        return extras
    ranges = [FrameRange(span.start, span.end) for span in joined(plan.segments)]
    return extras.with_subtitles(shown(subtitles.cues, ranges, timeline_of(info, plan.frame_rate)))


def video_commands(
    *, site: Site, chunk: task_pb2.VideoChunk, subtitles: Cues | None = None
) -> tuple[FfmpegCommand, ...]:
    """Return the run that makes the pictures of one chunk.

    Args:
        subtitles: of the source, where some are drawn into it.
    """
    picture = pb.Plan(
        width=chunk.width,
        height=chunk.height,
        fit=chunk.fit,
        quality=chunk.quality,
        video_codec=chunk.video_codec,
        dynamic_range=chunk.dynamic_range,
    )
    if chunk.HasField("burnt_subtitles"):
        picture.subtitles.mode = pb.SUBTITLE_MODE_BURN_IN
    if chunk.HasField("watermark"):
        picture.watermark.CopyFrom(chunk.watermark)
    ranges = [FrameRange(chunk.start_frame, chunk.end_frame)]
    timeline = timeline_of(chunk.info, chunk.frame_rate)
    return commands_of(
        Job(
            *(site, chunk.info, timeline, ranges, chunk.family),
            picture=picture,
            sound=False,
            stitchable=True,
            burnt=subtitles,
        )
    )


def audio_commands(*, site: Site, soundtrack: task_pb2.Soundtrack) -> tuple[FfmpegCommand, ...]:
    """Return the runs that make the sound of a whole output, in order, or a draft of it.

    One, unless there are too many inputs for it.
    """
    ranges = [FrameRange(span.start_frame, span.end_frame) for span in soundtrack.spans]
    timeline = timeline_of(soundtrack.info, soundtrack.frame_rate)
    family = pb.ENCODER_FAMILY_CPU
    return commands_of(
        Job(
            *(site, soundtrack.info, timeline, ranges, family),
            picture=None,
            sound=True,
            form=form_of_sound(soundtrack.codec),
            draft=soundtrack.HasField("loudness_lufs"),
        )
    )


def trial_command(
    ffmpeg: Path,
    family: pb.EncoderFamily.ValueType,
    codec: pb.VideoCodec.ValueType,
    *,
    ten_bit: bool = False,
) -> tuple[str, ...]:
    """Return a run that takes generated frames through the filters and a codec of `family`."""
    video = pb.VideoStream(width=320, height=240, bit_depth=10 if ten_bit else 8)
    plan = pb.Plan(width=640, height=360)
    if ten_bit:
        plan.dynamic_range = pb.DYNAMIC_RANGE_KEEP
    filters = ",".join(picture_filters(family, video, plan))
    return (
        *global_options(ffmpeg),
        *devices(family),
        *("-f", "lavfi", "-i", f"testsrc2=size={video.width}x{video.height}:rate=25"),
        *("-filter_complex", f"[0:v]{filters}[v]", "-map", "[v]"),
        *video_codec(
            *(family, codec, pb.QUALITY_MEDIUM), threads=1, stitchable=False, ten_bit=ten_bit
        ),
        *("-frames:v", "10", "-f", "null", "-"),
    )
