"""What becomes of a picture: the whole lists of filters."""

from __future__ import annotations

import pytest

from services.encoder.commands.picture import picture_filters
from videoexport.v1 import export_pb2 as pb

CPU, GPU = pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC
PHONE = pb.VideoStream(
    width=1920,
    height=1440,
    rotation=90,
    pixel_format="yuv420p",
    color_primaries="bt709",
    color_transfer="bt709",
    color_space="bt709",
    color_range="tv",
)


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
def test_colours_are_converted_on_the_cpu_for_the_gpu_too(fit: pb.Fit.ValueType) -> None:
    source = pb.VideoStream()
    source.CopyFrom(PHONE)
    source.color_transfer = "smpte2084"
    plan = pb.Plan(width=1280, height=720, fit=fit)
    on_cpu = picture_filters(CPU, source, plan)
    assert picture_filters(GPU, source, plan) == [*on_cpu, "hwupload_cuda"]
    place = next(place for place, text in enumerate(on_cpu) if text.startswith("tonemap"))
    # Only frames of one size come there.
    assert on_cpu[place - 3].startswith(("pad=1280:720:", "scale=w=1280:h=720:"))


@pytest.mark.parametrize("fit", pb.Fit.values())
def test_what_can_be_seen_through_is_hidden_before_it_is_scaled(fit: pb.Fit.ValueType) -> None:
    source = pb.VideoStream()
    source.CopyFrom(PHONE)
    source.pixel_format = "yuva420p"
    plan = pb.Plan(width=1280, height=720, fit=fit)
    said = "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
    whole = [
        said,
        "scale=w='min(1440,max(2,2*round(1920*iw/(ih)/2)))'"
        ":h='min(1920,max(2,2*round(1440*ih/(iw)/2)))':eval=frame:flags=bicubic",
        "pad=1440:1920:'2*floor((ow-iw)/4)':'2*floor((oh-ih)/4)':eval=frame",
        "premultiply=inplace=1",
    ]
    assert picture_filters(CPU, source, plan)[:4] == whole
    assert picture_filters(GPU, source, plan)[:2] == [said, "premultiply=inplace=1"]
