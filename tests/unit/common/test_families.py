"""Which family encodes what, given what encoders say of their codecs."""

from __future__ import annotations

import pytest

from services.common.families import choose_family, lacking_codec
from videoexport.v1 import export_pb2 as pb

CPU, GPU = pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC
H264, HEVC, AV1 = pb.VIDEO_CODEC_H264, pb.VIDEO_CODEC_HEVC, pb.VIDEO_CODEC_AV1


def capability(*codecs: pb.CodecCapability, available: bool = True) -> pb.EncoderCapability:
    return pb.EncoderCapability(family=GPU, available=available, codecs=codecs)


def codec(
    kind: pb.VideoCodec.ValueType, *, available: bool = True, ten_bit: bool = False
) -> pb.CodecCapability:
    reason = "" if available else "a trial encode failed: no capable devices found"
    return pb.CodecCapability(
        video_codec=kind, available=available, ten_bit=ten_bit, unavailable_reason=reason
    )


TOLD = capability(codec(H264), codec(HEVC, ten_bit=True), codec(AV1, available=False))


@pytest.mark.parametrize(
    ("told", "wanted", "ten_bit", "problem"),
    [
        (TOLD, H264, False, None),
        (TOLD, pb.VIDEO_CODEC_UNSPECIFIED, False, None),
        (TOLD, HEVC, False, None),
        (TOLD, HEVC, True, None),
        (TOLD, H264, True, "H.264 of 10 bits on the GPU"),
        (TOLD, AV1, False, "AV1 on the GPU"),
        (TOLD, pb.VIDEO_CODEC_VP9, False, "VP9 on the GPU"),
        # One of before tells of none, and has H.264.
        (capability(), H264, False, None),
        (capability(), HEVC, False, "HEVC on the GPU"),
        # One without the family takes none of its tasks.
        (capability(available=False), HEVC, False, None),
    ],
)
def test_codec_is_there_where_its_trial_succeeded(
    told: pb.EncoderCapability, wanted: pb.VideoCodec.ValueType, ten_bit: bool, problem: str | None
) -> None:
    assert lacking_codec([told], GPU, wanted, ten_bit=ten_bit) == problem
    assert lacking_codec([told], CPU, wanted, ten_bit=ten_bit) is None


def test_gpu_that_lacks_the_codec_gives_way_to_the_cpu() -> None:
    lacking = "not every one makes it"
    asked = choose_family(pb.ENCODER_PREFERENCE_GPU, gpu_live=True, gpu_problem=lacking)
    assert asked.family == CPU
    assert asked.reason == ("A GPU was requested, but not every one makes it, so the CPU encodes.")
    assert [warning.code for warning in asked.warnings] == ["GPU_FALLBACK"]
    auto = choose_family(pb.ENCODER_PREFERENCE_AUTO, gpu_live=True, gpu_problem=lacking)
    assert (auto.family, auto.reason, auto.warnings) == (
        CPU,
        "Not every one makes it.",
        (),
    )
    # Without a GPU, what it lacks is no matter.
    none = choose_family(pb.ENCODER_PREFERENCE_GPU, gpu_live=False, gpu_problem=lacking)
    assert "no GPU encoder is live" in none.reason
