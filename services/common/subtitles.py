"""Which of a source's subtitles an output has. Pure."""

from __future__ import annotations

from services.common.errors import Violation
from videoexport.v1 import export_pb2 as pb

# Codecs of text that an mp4, a Matroska, a WebM, a ts or an flv may hold, as FFmpeg names them or
# their decoders.
TEXT_CODECS = frozenset({"mov_text", "srt", "subrip", "ass", "ssa", "webvtt", "text"})
# Streams that an error tells of: it travels in metadata, which is short.
MOST_NAMED = 8


def subtitle_violations(info: pb.SourceInfo, settings: pb.ExportSettings) -> list[Violation]:
    """Return what is wrong with the subtitles that are asked for of a known source."""
    if not settings.HasField("subtitles"):
        return []
    wanted = settings.subtitles.stream
    found = next((each for each in info.subtitle_streams if each.index == wanted), None)
    if found is None:
        named = [_in_words(stream) for stream in info.subtitle_streams[:MOST_NAMED]]
        if len(info.subtitle_streams) > MOST_NAMED:
            named.append(f"{len(info.subtitle_streams) - MOST_NAMED} more")
        problem = f"the source has no subtitles {wanted}; there is {'; '.join(named) or 'none'}"
    elif not found.text:
        problem = (
            f"subtitles {wanted} ({found.codec}) are pictures of text, which can neither be kept "
            "nor be drawn"
        )
    else:
        return []
    return [Violation("settings.subtitles.stream", problem)]


def planned_subtitles(
    info: pb.SourceInfo, settings: pb.ExportSettings
) -> pb.PlannedSubtitles | None:
    """Return the subtitles of an output whose settings have no violations; None without any."""
    if not settings.HasField("subtitles"):
        return None
    wanted = settings.subtitles
    stream = next(each for each in info.subtitle_streams if each.index == wanted.stream)
    return pb.PlannedSubtitles(
        stream=stream.index,
        mode=wanted.mode or pb.SUBTITLE_MODE_KEEP,
        language=stream.language,
        title=stream.title,
        forced=stream.forced,
    )


def burnt_stream(plan: pb.Plan) -> int | None:
    """Return the stream whose text is drawn into an output's pictures, if any is."""
    burnt = plan.subtitles.mode == pb.SUBTITLE_MODE_BURN_IN
    return plan.subtitles.stream if burnt else None


def _in_words(stream: pb.SubtitleStream) -> str:
    said = [stream.codec, stream.language, stream.title]
    return f"{stream.index} ({', '.join(word for word in said if word)})"
