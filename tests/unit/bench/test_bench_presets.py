"""The table of presets: each codec beside H.264, and what looks unlike it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.presets import Measured, far_apart, measure, page, reference_of
from services.encoder.commands.codecs import CRF
from tests.media.frame_codes import Clip, generate, read_frame_numbers
from videoexport.v1 import export_pb2 as pb

H264, AV1 = pb.VIDEO_CODEC_H264, pb.VIDEO_CODEC_AV1
HIGH, LOW = pb.QUALITY_HIGH, pb.QUALITY_LOW
ROWS = [
    Measured("talk", H264, HIGH, 96.0, 200_000, 8.0),
    Measured("talk", AV1, HIGH, 96.9, 100_000, 12.0),
    Measured("talk", H264, LOW, 90.0, 80_000, 6.0),
    Measured("talk", AV1, LOW, 88.95, 60_000, 10.0),
]


def test_every_codec_is_told_beside_h264() -> None:
    lines = page(ROWS).splitlines()
    assert lines[2] == "| talk | HIGH | H.264 | 18 | 96.00 |  | 200 kB |  | 8.0 |"
    crf = f"{CRF[AV1][HIGH]:g}"
    assert lines[3] == f"| talk | HIGH | AV1 | {crf} | 96.90 | +0.90 | 100 kB | × 0.50 | 12.0 |"
    assert len({line.count("|") for line in lines}) == 1


def test_more_than_a_point_of_vmaf_is_far_apart() -> None:
    assert far_apart(ROWS) == [ROWS[3]]


async def test_reference_is_encoded_and_compared(scratch: Path, tmp_path: Path) -> None:
    clip = generate(Clip(frames=25, width=256, height=144), scratch / "clips")
    reference = await reference_of(clip.absolute(), tmp_path)
    assert read_frame_numbers(reference) == [*range(25)]
    high, low = [await measure(reference, H264, quality, tmp_path) for quality in (HIGH, LOW)]
    assert high.vmaf > low.vmaf > 20
    assert high.size_bytes > low.size_bytes > 0
    assert high.cpu_seconds == pytest.approx(low.cpu_seconds, abs=10)
    assert [path.name for path in tmp_path.iterdir()] == [reference.name]
