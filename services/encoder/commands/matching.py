"""Pictures that are encoded to go with others that are copied, as options for FFmpeg. Pure.

They have parameter sets of their own, under an id that the source's have not: the file holds
both, and every picture names the one that it was encoded with.
"""

from __future__ import annotations

from services.encoder.formats.avc import BASELINE, HIGH, MAIN, Configuration
from videoexport.v1 import export_pb2 as pb

_PROFILES = {BASELINE: "baseline", MAIN: "main", HIGH: "high"}
# As good as QUALITY_HIGH, in half its time and a sixth more bits: few pictures are encoded, so
# these cost little. docs/smart-copy.md has what was measured.
CRF, PRESET = 15, "veryfast"
MOST_REFERENCES = 3


def matched_codec(video: pb.VideoStream, *, threads: int) -> list[str]:
    """Return the codec of pictures that go between a source's own.

    Raises:
        Damaged: the source's parameters cannot be read.
    """
    configuration = Configuration.parse(video.avc_configuration)
    source = configuration.first()
    ahead = 0 if source.profile == BASELINE else video.reordered_frames
    parameters = {
        "stitchable": 1,
        "sps-id": configuration.free_id(),
        "level": source.level,
        # A decoder gets ready for as many pictures as for the source's: it may drop those that
        # it has not shown yet where it has to get ready anew.
        "dpb-size": source.references,
        "ref": max(1, min(source.references, MOST_REFERENCES)),
        # Decoded no further ahead than the source's, so that one clock serves both.
        "bframes": 3 if ahead else 0,
        "b-pyramid": "normal" if ahead > 1 else "none",
    }
    return [
        *("-c:v", "libx264", "-preset", PRESET, "-crf", str(CRF)),
        *("-profile:v", _PROFILES[source.profile]),
        *("-x264-params", ":".join(f"{name}={value}" for name, value in parameters.items())),
        *("-threads:v", str(threads), "-fps_mode:v", "passthrough", "-flags:v", "+bitexact"),
    ]
