"""What becomes of a picture: the whole lists of filters, and its colours."""

from __future__ import annotations

import pytest

from services.encoder.picture import picture_filters
from videoexport.v1 import export_pb2 as pb

CPU, GPU = pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC
PHONE = pb.VideoStream(width=1920, height=1440, rotation=90, pixel_format="yuv420p")


@pytest.mark.parametrize(
    ("family", "fit", "filters"),
    [
        (
            CPU,
            pb.FIT_CROP,
            [
                "scale=w='min(1440,max(2,2*round(1920*iw/(ih)/2)))'"
                ":h='min(1920,max(2,2*round(1440*ih/(iw)/2)))':eval=frame:flags=bicubic",
                "pad=1440:1920:'2*floor((ow-iw)/4)':'2*floor((oh-ih)/4)':eval=frame",
                "crop=1440:810:0:554",
                "scale=w=1280:h=720:flags=bicubic:out_range=tv",
            ],
        ),
        (CPU, pb.FIT_STRETCH, ["scale=w=1280:h=720:eval=frame:flags=bicubic:out_range=tv"]),
        (
            GPU,
            pb.FIT_CROP,
            [
                "crop=1440:810:0:554",
                "scale=out_range=tv",
                "format=yuv420p",
                "hwupload_cuda",
                "scale_cuda=1280:720:interp_algo=bicubic",
            ],
        ),
        (
            GPU,
            pb.FIT_STRETCH,
            [
                "scale=out_range=tv",
                "format=yuv420p",
                "hwupload_cuda",
                "scale_cuda=1280:720:interp_algo=bicubic",
            ],
        ),
        (
            GPU,
            pb.FIT_PAD,
            [
                "scale=out_range=tv",
                "format=yuv420p",
                "hwupload_cuda",
                "scale_cuda=540:720:interp_algo=bicubic",
                "pad_cuda=1280:720:370:0",
            ],
        ),
    ],
)
def test_filters_of_each_fit(
    family: pb.EncoderFamily.ValueType, fit: pb.Fit.ValueType, filters: list[str]
) -> None:
    plan = pb.Plan(width=1280, height=720, fit=fit)
    end = ["setsar=1", "format=yuv420p"] if family == CPU else ["setsar=1"]
    assert picture_filters(family, PHONE, plan) == filters + end


@pytest.mark.parametrize("fit", pb.Fit.values())
@pytest.mark.parametrize("family", [CPU, GPU])
@pytest.mark.parametrize(
    ("pixel_format", "rgb"),
    [
        *((name, True) for name in ("rgb24", "gbrp10le", "bgra", "0rgb", "argb", "pal8")),
        *((name, False) for name in ("yuv420p", "yuvj422p", "nv12", "gray")),
    ],
)
def test_rgb_becomes_bt709_and_yuv_stays_as_it_is(
    family: pb.EncoderFamily.ValueType, fit: pb.Fit.ValueType, pixel_format: str, rgb: bool
) -> None:
    source = pb.VideoStream(width=64, height=36, pixel_format=pixel_format)
    filters = picture_filters(family, source, pb.Plan(width=1920, height=1080, fit=fit))
    converts = [text for text in filters if "out_range=tv" in text]
    assert len(converts) == 1
    assert ("out_color_matrix=bt709" in converts[0]) is rgb
