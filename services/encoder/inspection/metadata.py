"""What a source says of itself, found out with PyAV. Runs in a child process only."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from services.common.chapters import MAX_CHAPTERS
from services.common.planner import duration_of
from services.common.subtitles import TEXT_CODECS
from services.encoder.formats.told import (
    MAX_TITLE,
    clean,
    kept_tags,
    language,
    location_and_device_tags,
)
from videoexport.v1 import export_pb2 as pb

# More are never listed: what is known of a source goes with its tasks.
MAX_SUBTITLE_STREAMS = 64


def describe_metadata(container: InputContainer, video: VideoStream) -> pb.SourceMetadata:
    """Return what the file says, and of the pictures."""
    return pb.SourceMetadata(
        tags=kept_tags(container.metadata),
        location_and_device=location_and_device_tags(container.metadata),
        video_language=language(video.metadata.get("language", "")),
    )


def describe_chapters(
    container: InputContainer, origin: Fraction, end: Fraction
) -> list[pb.Chapter]:
    """Return the chapters, none of them beyond the source.

    Args:
        origin: seconds on the container's clock at which the source begins.
        end: seconds after that at which it ends.
    """
    found = []
    for chapter in container.chapters():
        tick = Fraction(chapter["time_base"] or 0)
        first, last = (chapter[side] * tick - origin for side in ("start", "end"))
        first, last = max(first, Fraction(0)), min(last, end)
        if first < last:
            found.append((first, last, _title(chapter["metadata"])))
    found.sort(key=lambda each: each[:2])
    return [
        pb.Chapter(start_time=duration_of(first), end_time=duration_of(last), title=title)
        for first, last, title in found[:MAX_CHAPTERS]
    ]


def describe_subtitles(container: InputContainer) -> list[pb.SubtitleStream]:
    """Return the streams of subtitles."""
    found = []
    for stream in container.streams.subtitles:
        codec = "" if stream.codec_context is None else stream.codec_context.name
        # mov and mp4 call it the name.
        title = stream.metadata.get("title") or stream.metadata.get("name") or ""
        found.append(
            pb.SubtitleStream(
                index=stream.index,
                codec=codec,
                language=language(stream.metadata.get("language", "")),
                title=clean(title, MAX_TITLE),
                default=bool(stream.disposition & Disposition.default),
                forced=bool(stream.disposition & Disposition.forced),
                text=codec in TEXT_CODECS,
            )
        )
    return found[:MAX_SUBTITLE_STREAMS]


def _title(told: Mapping[str, str]) -> str:
    for key, value in told.items():
        if key.lower() == "title":
            return clean(value, MAX_TITLE)
    return ""
