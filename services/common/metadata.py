"""What an output says of itself: of what its source says, what is asked for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.chapters import retimed
from services.common.sound import chosen_stream, streams_of
from videoexport.v1 import export_pb2 as pb


def output_metadata(
    info: pb.SourceInfo,
    settings: pb.ExportSettings,
    chapters: Sequence[tuple[int, int]],
    segments: Sequence[tuple[int, int]],
) -> pb.OutputMetadata:
    """Return what the output says, its chapters in frames alone.

    Args:
        chapters: frames of the source's chapters, in their order.
        segments: frames that the output shows, in its order.
    """
    told = info.metadata
    more = told.location_and_device if settings.keep_location_and_device else []
    sound = chosen_stream(info, settings)
    languages = [each.language for each in streams_of(info) if each.index == sound]
    return pb.OutputMetadata(
        tags=[*told.tags, *more],
        chapters=[
            pb.PlannedChapter(
                start_frame=place.start, end_frame=place.end, title=info.chapters[place.index].title
            )
            for place in retimed(chapters, segments)
        ],
        video_language=told.video_language,
        audio_language=next(iter(languages), ""),
        has_location_and_device=bool(more),
    )
