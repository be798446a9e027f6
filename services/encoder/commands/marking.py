"""How a finished watermark is laid over the frames of an output, as text for FFmpeg. Pure."""

from __future__ import annotations

from pathlib import Path

from services.encoder.commands.colour import tags_of_output
from services.encoder.commands.options import escaped
from videoexport.v1 import export_pb2 as pb

MARK = "mark.png"
# As `scale` names the matrices that differ from the names of what is in a file.
_SCALE_NAMES = {"bt470bg": "bt601"}


def mark_filters(folder: Path, plan: pb.Plan, video: pb.VideoStream) -> list[str]:
    """Return what reads a finished watermark, in the colours of an output; none without one."""
    if not plan.HasField("watermark"):
        return []
    matrix = tags_of_output(video).matrix
    return [
        f"movie=filename={escaped(folder / MARK)}:format_name=png_pipe",
        f"scale=out_color_matrix={_SCALE_NAMES.get(matrix, matrix)}:out_range=tv",
        "format=yuva420p",
        # `scale` has one name for two of the same matrix, and `overlay` would have all pictures
        # converted for it.
        f"setparams=colorspace={matrix}:range=tv",
    ]


def place_of(watermark: pb.Watermark, width: int) -> str:
    """Return where a watermark is in a frame of a width, as `overlay` is told.

    On even pixels, because 4:2:0 shares chroma between pairs of them.
    """
    margin = margin_of(watermark, width)
    near, far = str(margin), "2*floor(({0}-{1}-" + str(margin) + ")/2)"
    middle = "2*floor(({0}-{1})/4)"
    across, down = {
        pb.WATERMARK_POSITION_TOP_LEFT: (near, near),
        pb.WATERMARK_POSITION_TOP_RIGHT: (far, near),
        pb.WATERMARK_POSITION_BOTTOM_LEFT: (near, far),
        pb.WATERMARK_POSITION_CENTER: (middle, middle),
    }.get(watermark.position, (far, far))
    return f"x='{across.format('W', 'w')}':y='{down.format('H', 'h')}'"


def margin_of(watermark: pb.Watermark, width: int) -> int:
    """Return its distance from the edges of a frame of a width, in pixels."""
    return 2 * round(watermark.margin * width / 2)
