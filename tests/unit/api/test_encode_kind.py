"""Kinds of encodes, as rows name them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from services.api.encode_kind import NAMES_OF_FAMILIES, EncodeKind
from services.common.codecs import NAMES
from services.common.geometry import SIZES
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


PREVIOUS = Path(__file__).resolve().parents[2] / "fixtures/previous/descriptors.binpb"


def test_rows_that_replicas_of_before_read_have_names_that_they_know() -> None:
    files = FileDescriptorSet.FromString(PREVIOUS.read_bytes()).file
    known = {value.name for file in files for enum in file.enum_type for value in enum.value}
    readable = set()
    for resolution, quality, codec in product(SIZES, pb.Quality.values()[1:], NAMES):
        kind = EncodeKind(pb.ENCODER_FAMILY_CPU, resolution, quality, codec)
        assert kind.name_of_family in NAMES_OF_FAMILIES
        names = (pb.Resolution.Name(resolution), pb.Quality.Name(quality))
        assert EncodeKind.of_row(kind.name_of_family, *names) == kind
        if kind.name_of_family in known:
            readable.add(names)
    assert {name for names in readable for name in names} <= known
    assert len(readable) == 6, "they learn of what they can make as before"


@pytest.mark.parametrize(
    "names",
    [
        ("ENCODER_FAMILY_CPU", "RESOLUTION_4320P", "QUALITY_LOW"),
        ("ENCODER_FAMILY_CPU", "RESOLUTION_720P", "QUALITY_PERFECT"),
        ("ENCODER_FAMILY_CPU/VIDEO_CODEC_AV9", "RESOLUTION_720P", "QUALITY_LOW"),
        ("ENCODER_FAMILY_FPGA", "RESOLUTION_720P", "QUALITY_LOW"),
    ],
)
def test_row_of_a_newer_version_is_of_no_kind(names: tuple[str, str, str]) -> None:
    assert EncodeKind.of_row(*names) is None
