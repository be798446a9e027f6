"""Which of a source's sounds an output has. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import Violation
from videoexport.v1 import export_pb2 as pb

# FFmpeg's names of streams that are one side of a pair, as broadcasts and cameras have them.
LEFT, RIGHT = "1 channels (FL)", "1 channels (FR)"
# Streams that an error tells of: it travels in metadata, which is short.
MOST_NAMED = 8


def streams_of(info: pb.SourceInfo) -> Sequence[pb.AudioStream]:
    """Return every audio stream that is known of a source."""
    if info.audio_streams or not info.HasField("audio"):
        return info.audio_streams
    return [info.audio]


def lists_sound(info: pb.SourceInfo) -> bool:
    """Return whether all of a source's sound is known; versions of before told of one stream."""
    return bool(info.audio_streams) or not info.HasField("audio")


def stream_violations(info: pb.SourceInfo, settings: pb.ExportSettings) -> list[Violation]:
    """Return what is wrong with the audio stream that is asked for of a known source."""
    streams = streams_of(info)
    wanted = settings.audio_stream
    if not settings.HasField("audio_stream") or any(each.index == wanted for each in streams):
        return []
    named = [_in_words(stream) for stream in streams[:MOST_NAMED]]
    if len(streams) > MOST_NAMED:
        named.append(f"{len(streams) - MOST_NAMED} more")
    there = "; ".join(named) or "none"
    problem = f"the source has no audio stream {wanted}; there is {there}"
    return [Violation("settings.audio_stream", problem)]


def chosen_stream(info: pb.SourceInfo, settings: pb.ExportSettings) -> int | None:
    """Return the index of the stream that the sound is of; None where there is none."""
    if settings.HasField("audio_stream"):
        return settings.audio_stream
    return info.audio.index if info.HasField("audio") else None


def pair_of(info: pb.SourceInfo) -> tuple[int, int] | None:
    """Return the left and the right stream that the exported one is one of, if so.

    They follow each other among the sides that have their language.
    """
    own = info.audio
    if own.channel_layout not in (LEFT, RIGHT):
        return None
    waiting: pb.AudioStream | None = None
    for stream in info.audio_streams:
        if stream.channel_layout not in (LEFT, RIGHT) or stream.language != own.language:
            continue
        if waiting is None or waiting.channel_layout == stream.channel_layout:
            waiting = stream
            continue
        sides = {each.channel_layout: each.index for each in (waiting, stream)}
        if own.index in sides.values():
            return sides[LEFT], sides[RIGHT]
        waiting = None
    return None


def with_sound_of(info: pb.SourceInfo, plan: pb.Plan) -> pb.SourceInfo:
    """Return a source with the sound of a plan as its only one, or the two of a pair.

    So what is made of it has another key with another sound, and the same whatever else there
    is to hear. What it says of itself is in the plan, as far as the output says it.
    """
    chosen = pb.SourceInfo()
    chosen.CopyFrom(info)
    for told in ("chapters", "metadata", "subtitle_streams"):
        chosen.ClearField(told)
    for stream in info.audio_streams:
        if stream.index == plan.audio_stream and plan.HasField("audio_stream"):
            chosen.audio.CopyFrom(stream)
    pair = pair_of(chosen) or ()
    del chosen.audio_streams[:]
    chosen.audio_streams.extend(each for each in info.audio_streams if each.index in pair)
    return chosen


def _in_words(stream: pb.AudioStream) -> str:
    layout = stream.channel_layout or f"{stream.channels} channels"
    said = [stream.codec, layout, stream.language, stream.title]
    return f"{stream.index} ({', '.join(word for word in said if word)})"
