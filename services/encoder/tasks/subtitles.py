"""Reads the subtitles that an output shows, through the gateway."""

from __future__ import annotations

from collections.abc import Iterable

from services.common.frames import FrameRange, joined
from services.encoder.commands.cues import Cues
from services.encoder.commands.fonts import font_folders
from services.encoder.commands.job import timeline_of
from services.encoder.deadline import Deadline
from services.encoder.inspection.probe import read_cues
from services.encoder.sources.gateway import SourceHandle
from services.encoder.sources.readable import unless_lost
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


async def subtitles_of_plan(
    source: SourceHandle, info: pb.SourceInfo, plan: pb.Plan, deadline: Deadline
) -> Cues | None:
    """Return what a plan with its segments shows of a source's subtitles; None where nothing.

    Raises:
        MediaError, DomainError: why they cannot be read, or not be drawn.
    """
    if not plan.HasField("subtitles"):
        return None
    if plan.subtitles.mode == pb.SUBTITLE_MODE_BURN_IN:
        font_folders()  # Before anything is read in vain.
    ranges = joined(plan.segments)
    return await _read(source, info, plan.subtitles.stream, plan.frame_rate, ranges, deadline)


async def subtitles_of_chunk(
    source: SourceHandle, chunk: task_pb2.VideoChunk, deadline: Deadline
) -> Cues | None:
    """Return what is drawn into a chunk; None where nothing is. Raises as above."""
    if not chunk.HasField("burnt_subtitles"):
        return None
    font_folders()
    ranges = [FrameRange(chunk.start_frame, chunk.end_frame)]
    stream, rate = chunk.burnt_subtitles, chunk.frame_rate
    return await _read(source, chunk.info, stream, rate, ranges, deadline)


async def subtitles_of_assembly(
    source: SourceHandle, work: task_pb2.AssembleTask, deadline: Deadline
) -> Cues:
    """Return what an output in parts has as text. Raises as above."""
    kept = work.subtitles
    ranges = [FrameRange(span.start_frame, span.end_frame) for span in kept.spans]
    stream, rate = work.plan.subtitles.stream, work.plan.frame_rate
    return await _read(source, kept.info, stream, rate, ranges, deadline)


async def _read(
    source: SourceHandle,
    info: pb.SourceInfo,
    stream: int,
    rate: pb.Rational,
    ranges: Iterable[FrameRange],
    deadline: Deadline,
) -> Cues:
    timeline = timeline_of(info, rate)
    spans = [(timeline.time(frames.start), timeline.time(frames.end)) for frames in ranges]
    return await unless_lost(read_cues(source.url, info, stream, spans, deadline), source)
