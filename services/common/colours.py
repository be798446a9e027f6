"""What of a source's colours no SDR output can carry. Pure."""

from __future__ import annotations

from videoexport.v1 import export_pb2 as pb

# What decides that pictures are HDR: PQ (SMPTE ST 2084) and HLG (ARIB STD-B67).
PQ, HLG = "smpte2084", "arib-std-b67"

# What few players convert from, by FFmpeg's names. Of primaries these are wider than an SDR
# screen's; of matrices those that `scale` does not know, or that go with such primaries.
CONVERTED_PRIMARIES = ("bt2020", "smpte428", "smpte431", "smpte432", "film")
CONVERTED_TRANSFERS = ("bt2020-10", "bt2020-12", "linear", "log100", "log316", PQ, HLG)
CONVERTED_MATRICES = ("bt2020nc", "bt2020c", "ictcp", "ycgco")

_PACKED_ALPHA = ("rgba", "bgra", "argb", "abgr", "ayuv", "vuya", "uyva", "ya8", "ya16", "pal8")


def is_converted(primaries: str, transfer: str, matrix: str) -> bool:
    """Return whether such colours are made others for SDR; what is not said is none of these."""
    return (
        primaries in CONVERTED_PRIMARIES
        or transfer in CONVERTED_TRANSFERS
        or matrix in CONVERTED_MATRICES
    )


def has_alpha(video: pb.VideoStream) -> bool:
    """Return whether something can be seen through."""
    return video.pixel_format.startswith(("yuva", "gbrap", *_PACKED_ALPHA))
