"""Whether enough is known of a source that an encoder of before has examined. Pure."""

from __future__ import annotations

from services.common.smart_copy import is_examined
from services.common.sound import lists_sound
from videoexport.v1 import export_pb2 as pb


def knows_enough(info: pb.SourceInfo, settings: pb.ExportSettings) -> bool:
    """Return whether all that settings ask for is known of a source.

    Versions of before told of one stream of sound, nothing that a source says of itself, and
    not whether its pictures can be copied.
    """
    if settings.quality == pb.QUALITY_SOURCE and not is_examined(info):
        return False
    if settings.HasField("audio_stream") and not lists_sound(info):
        return False
    wants_more = settings.keep_location_and_device or settings.HasField("subtitles")
    return tells_all(info) or not wants_more


def tells_all(info: pb.SourceInfo) -> bool:
    """Return whether an encoder of this version has examined a source.

    Those of before told nothing of fields, of clocks that jump, of chapters and of tags, either.
    """
    return info.HasField("metadata")
