"""An FFmpeg that is none ends the start with one sentence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.common.config import StartupError
from services.encoder.service import run
from services.encoder.settings import EncoderSettings


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("#!/bin/sh\necho something else", "FFmpeg does not say its version"),
        ("#!/bin/sh\nsleep 60", "FFmpeg does not say what it is within 0.5 s"),
        ("no program", "cannot be run: Exec format error"),
    ],
)
async def test_program_that_is_no_ffmpeg_is_named(
    tmp_path: Path, program: str, sentence: str
) -> None:
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text(program)
    ffmpeg.chmod(0o755)
    settings = EncoderSettings(
        nats_url="nats://127.0.0.1:1",
        storage_address="127.0.0.1:1",
        scratch_dir=tmp_path / "scratch",
        ffmpeg=ffmpeg,
        trial_timeout=0.5,
    )
    with pytest.raises(StartupError) as refused:
        await run(settings, asyncio.Event())
    assert str(ffmpeg) in str(refused.value)
    assert sentence in str(refused.value)
