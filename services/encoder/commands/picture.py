"""The filters that make a source's picture one of the output, as text for FFmpeg. Pure.

FFmpeg turns and mirrors pictures as the source says, and cuts off what it says, before any
of these.
"""

from __future__ import annotations

from services.common.codecs import is_ten_bit
from services.common.geometry import cropped_area, fitted_area, upright_sar, upright_size
from services.common.subtitles import burnt_stream
from services.encoder.commands.colour import Colour, colour_of
from videoexport.v1 import export_pb2 as pb


def picture_filters(
    family: pb.EncoderFamily.ValueType,
    video: pb.VideoStream,
    plan: pb.Plan,
) -> list[str]:
    """Return the filters that make a source's frame a frame of the output.

    Args:
        plan: size, fit and dynamic range of the output, and what is drawn onto it afterwards.
            That is done on the CPU: there a frame stays until then.
    """
    if plan.quality == pb.QUALITY_SOURCE:
        # Beside pictures that are copied nothing is changed, and nothing said that these do not.
        return []
    ten_bit = is_ten_bit(video, plan.dynamic_range)
    colour = colour_of(video, keep=plan.dynamic_range == pb.DYNAMIC_RANGE_KEEP)
    filters = _cpu_filters(video, plan, colour)
    if plan.HasField("watermark") or burnt_stream(plan) is not None:
        family = pb.ENCODER_FAMILY_CPU
    if family != pb.ENCODER_FAMILY_NVENC:
        return [*filters, f"format={'yuv420p10le' if ten_bit else 'yuv420p'}"]
    if ten_bit or colour.after:
        # There are no filters on the GPU for these, and they cost least at the output's size.
        return [*filters, f"format={'p010le' if ten_bit else 'yuv420p'}", "hwupload_cuda"]
    return _gpu_filters(video, plan, colour)


def _cpu_filters(video: pb.VideoStream, plan: pb.Plan, colour: Colour) -> list[str]:
    """Return the filters that fit and convert a frame on the CPU.

    They do so by every frame's own size: broadcasts and recordings of calls change it on the
    way. `crop` and the filters of colours do not, so these get frames of one size.
    """
    width, height = plan.width, plan.height
    how = f"flags=bicubic{colour.scale}"
    before = [*colour.before]
    if plan.fit == pb.FIT_CROP or colour.over_black:
        before += padded(*upright_size(video), "iw", "ih", "flags=bicubic")
        # Before they are scaled, which would mix what cannot be seen into what can.
        before += colour.over_black
    if plan.fit == pb.FIT_CROP:
        area = cropped_area(video, width, height)
        chain = [
            f"crop={area.width}:{area.height}:{area.left}:{area.top}",
            f"scale=w={width}:h={height}:{how}",
        ]
    elif plan.fit == pb.FIT_STRETCH:
        chain = [f"scale=w={width}:h={height}:eval=frame:{how}"]
    else:
        sar = upright_sar(video)
        chain = padded(width, height, f"iw*{sar.numerator}", f"ih*{sar.denominator}", how)
    return [*before, *chain, *colour.after, "setsar=1"]


def padded(width: int, height: int, wide: str, high: str, how: str) -> list[str]:
    """Return the filters that do as `fitted_area` does, for every frame's own size.

    Args:
        wide, high: a frame's width and height in square pixels, as expressions.
    """
    size = (
        f"w='min({width},max(2,2*round({height}*{wide}/({high})/2)))'"
        f":h='min({height},max(2,2*round({width}*{high}/({wide})/2)))'"
    )
    return [
        f"scale={size}:eval=frame:{how}",
        f"pad={width}:{height}:'2*floor((ow-iw)/4)':'2*floor((oh-ih)/4)':eval=frame",
    ]


def _gpu_filters(video: pb.VideoStream, plan: pb.Plan, colour: Colour) -> list[str]:
    """Return the filters that convert and upload a frame and fit it on the GPU.

    Cutting stays on the CPU, where it only counts frames; so does decoding,
    because NVDEC refuses too many sources (10 bit H.264, 4:2:2, rotation) to be
    proven by a trial, and dozens of inputs would each take its surfaces.
    """
    before, width, height, after = [], plan.width, plan.height, []
    if plan.fit == pb.FIT_CROP:
        # There is no crop for the GPU.
        area = cropped_area(video, width, height)
        before = [f"crop={area.width}:{area.height}:{area.left}:{area.top}"]
    elif plan.fit != pb.FIT_STRETCH:
        area = fitted_area(video, width, height)
        after = [f"pad_cuda={width}:{height}:{area.left}:{area.top}"]
        width, height = area.width, area.height
    return [
        *colour.before,
        *colour.over_black,
        *before,
        f"scale={colour.scale[1:]}",
        "format=yuv420p",
        "hwupload_cuda",
        f"scale_cuda={width}:{height}:interp_algo=bicubic",
        *after,
        "setsar=1",
    ]
