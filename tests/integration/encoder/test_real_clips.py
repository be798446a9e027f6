"""Cutting what real encoders wrote: every output frame looks like the source frame it must be."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.media.exporting import HEIGHT, WIDTH, export
from tests.media.frame_codes import ffmpeg_exe
from videoexport.v1 import export_pb2 as pb

Frames = npt.NDArray[np.float32]


async def read_luma(path: Path) -> Frames:
    """All frames as luma at the size of the test's outputs.

    As it is stored: FFmpeg makes another grey of another matrix, which only outputs may name.
    """
    process = await asyncio.create_subprocess_exec(
        *(ffmpeg_exe(), "-nostdin", "-v", "error", "-i", str(path), "-map", "0:v:0"),
        *("-fps_mode", "passthrough", "-vf", f"scale={WIDTH}:{HEIGHT},format=yuv420p"),
        *("-f", "rawvideo", "pipe:1"),
        stdout=PIPE,
    )
    data, _ = await process.communicate()
    pictures = np.frombuffer(data, dtype=np.uint8).reshape(-1, HEIGHT * 3 // 2, WIDTH)
    return pictures[:, :HEIGHT].astype(np.float32)


@pytest.mark.parametrize(
    ("name", "rate", "frame_count", "channels"),
    [
        ("talk-42s.mp4", Fraction(30), 1272, 2),
        ("car-detection.mp4", Fraction(25, 2), 377, 2),
        ("bigbuckbunny-5s.mp4", Fraction(25), 132, 6),
    ],
)
async def test_real_clip_is_cut_at_the_right_frames(
    real_media: Path,
    tmp_path: Path,
    name: str,
    rate: Fraction,
    frame_count: int,
    channels: int,
) -> None:
    ranges = [(70, 90), (20, 25), (23, 40), (frame_count - 10, frame_count)]
    made = await export(real_media / name, ranges, tmp_path, quality=pb.QUALITY_HIGH)
    video = made.info.video
    assert Fraction(video.frame_rate.numerator, video.frame_rate.denominator) == rate
    assert (video.frame_count, made.info.audio.channels) == (frame_count, channels)
    source, output = await asyncio.gather(read_luma(real_media / name), read_luma(made.path))
    wanted = [frame for start, end in ranges for frame in range(start, end)]
    assert len(source) == frame_count
    assert len(output) == len(wanted)
    for place, frame in enumerate(wanted):
        near = range(max(0, frame - 4), min(frame_count, frame + 5))
        errors = {other: float(np.abs(output[place] - source[other]).mean()) for other in near}
        # Neighbours may be all but equal where nothing moves.
        assert errors[frame] <= min(errors.values()) + 0.25, f"frame {place} is not {frame}"
        assert errors[frame] < 4
