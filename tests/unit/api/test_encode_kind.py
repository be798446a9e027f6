"""Kinds of encodes, as rows name them."""

from __future__ import annotations

import pytest

from services.api.encode_kind import NAMES_OF_FAMILIES, EncodeKind
from videoexport.v1 import export_pb2 as pb


@pytest.mark.parametrize("family", [pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC])
@pytest.mark.parametrize("codec", [pb.VIDEO_CODEC_H264, pb.VIDEO_CODEC_AV1])
def test_kind_comes_back_from_its_row(
    family: pb.EncoderFamily.ValueType, codec: pb.VideoCodec.ValueType
) -> None:
    kind = EncodeKind(family, pb.RESOLUTION_480P, pb.QUALITY_LOW, codec)
    names = (kind.name_of_family, "RESOLUTION_480P", "QUALITY_LOW")
    assert EncodeKind.of_row(*names) == kind
    assert kind.name_of_family in NAMES_OF_FAMILIES


def test_kinds_of_before_have_the_names_of_before() -> None:
    kind = EncodeKind(pb.ENCODER_FAMILY_CPU, pb.RESOLUTION_720P, pb.QUALITY_HIGH)
    assert kind.name_of_family == "ENCODER_FAMILY_CPU"
