"""The watermark of an output. Pure."""

from __future__ import annotations

from videoexport.v1 import export_pb2 as pb

MAX_IMAGE_BYTES = 20 << 20
DEFAULT_MARGIN, DEFAULT_WIDTH, DEFAULT_OPACITY = 0.02, 0.15, 1.0


def planned_watermark(settings: pb.ExportSettings) -> pb.Watermark | None:
    """Return the watermark of an output with every value; None where it has none."""
    if not settings.HasField("watermark"):
        return None
    planned = pb.Watermark(
        position=pb.WATERMARK_POSITION_BOTTOM_RIGHT,
        margin=DEFAULT_MARGIN,
        width=DEFAULT_WIDTH,
        opacity=DEFAULT_OPACITY,
    )
    planned.MergeFrom(settings.watermark)
    return planned
