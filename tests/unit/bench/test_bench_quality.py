"""What is read out of FFmpeg's logs, and what counts as a complaint."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import ffmpeg
from bench.quality import compare, count_frames, mean_ssim
from tests.media.frame_codes import Clip, generate
from videoexport.v1 import export_pb2 as pb

FRAMES = 50


@pytest.fixture(scope="module")
def clip(scratch: Path) -> Path:
    """Two seconds, each frame unlike the one before it."""
    return generate(Clip(frames=FRAMES, gop=10), scratch / "clips")


def test_mean_ssim_is_that_of_all_planes_over_all_frames() -> None:
    lines = [
        "n:1 Y:0.900000 U:0.800000 V:0.700000 All:0.950000 (13.010300)",
        "n:2 Y:0.100000 U:0.200000 V:0.300000 All:0.850000 (8.239087)",
    ]
    assert mean_ssim(lines) == pytest.approx(0.9)


async def test_file_is_compared_with_the_frames_of_its_segment(clip: Path, tmp_path: Path) -> None:
    source = clip.absolute()
    with_its_frames, with_others = tmp_path / "right.mp4", tmp_path / "wrong.mp4"
    for made, start in ((with_its_frames, "0.4"), (with_others, "0.44")):
        cut = ["-ss", start, "-t", "1", "-i", str(source), "-an"]
        await ffmpeg.run([*cut, "-c:v", "libx264", "-qp", "0", str(made)])
    info = pb.SourceInfo(video=pb.VideoStream(frame_rate=pb.Rational(numerator=25, denominator=1)))
    like = await compare(with_its_frames, source, (0.4, 1.4), info, tmp_path)
    unlike = await compare(with_others, source, (0.4, 1.4), info, tmp_path)
    assert like.ssim > 0.999
    assert unlike.ssim < like.ssim - 0.01
    assert unlike.vmaf < like.vmaf - 1


async def test_whole_file_has_its_frames_and_no_complaint(clip: Path) -> None:
    assert count_frames(clip) == FRAMES
    assert await ffmpeg.complaints(clip) == []


async def test_damaged_file_has_complaints(clip: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 500] = bytes(500)
    damaged.write_bytes(data)
    assert await ffmpeg.complaints(damaged)
