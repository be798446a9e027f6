"""What is in a finished file, found out in a child."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from pathlib import Path

import pytest

from services.encoder.errors import OutputMismatch
from services.encoder.inspection.probe import verify_output
from tests.integration.encoder.conftest import MakeClip
from tests.media.exporting import export
from tests.media.frame_codes import Clip, ffmpeg_exe

NTSC = Fraction(30000, 1001)


async def test_output_is_counted_packet_by_packet(clip: MakeClip, tmp_path: Path) -> None:
    made = await export(clip(Clip(frames=50, rate=NTSC)), [(5, 40)], tmp_path)
    facts = await verify_output(made.path)
    assert facts.frame_count == 35
    assert facts.duration == 35 / NTSC
    assert facts.audio_duration == Fraction(round(35 * 48_000 / NTSC), 48_000)
    assert (facts.width, facts.height) == (256, 144)
    assert facts.size_bytes == made.path.stat().st_size
    assert facts.index_in_front
    assert facts.av_offset is not None
    assert facts.av_offset <= Fraction(1, 48_000)
    assert (facts.codec, facts.pixel_format) == ("h264", "yuv420p")


async def test_colours_that_the_output_names_are_read(clip: MakeClip, tmp_path: Path) -> None:
    made = await export(clip(Clip(frames=10, clicks=None)), None, tmp_path)
    facts = await verify_output(made.path)
    named = (facts.color_primaries, facts.color_transfer, facts.color_space, facts.color_range)
    # What is guessed of a small picture of 25 frames a second.
    assert named == ("bt470bg", "smpte170m", "bt470bg", "tv")
    assert facts.av_offset is None


async def test_pictures_that_were_moved_are_seen(clip: MakeClip, tmp_path: Path) -> None:
    made = await export(clip(Clip(frames=50)), None, tmp_path)
    moved = tmp_path / "moved.mp4"
    process = await asyncio.create_subprocess_exec(
        *(ffmpeg_exe(), "-v", "error", "-itsoffset", "0.05", "-i", str(made.path)),
        *("-i", str(made.path), "-map", "0:v", "-map", "1:a", "-c", "copy"),
        *("-movflags", "+faststart", str(moved)),
    )
    assert await process.wait() == 0
    facts = await verify_output(moved)
    assert facts.av_offset is not None
    assert float(facts.av_offset) == pytest.approx(0.05, abs=0.001)


async def test_output_with_its_index_at_the_end_is_noticed(clip: MakeClip) -> None:
    assert not (await verify_output(clip(Clip(frames=50)))).index_in_front


@pytest.mark.parametrize("content", [b"", b"no mp4", bytes(1000)])
async def test_output_that_is_no_mp4_is_a_mismatch(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "output.mp4").write_bytes(content)
    with pytest.raises(OutputMismatch):
        await verify_output(tmp_path / "output.mp4")
