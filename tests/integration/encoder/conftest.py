"""Generated clips, and exports made with the encoder's real parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.media.frame_codes import Clip, ffmpeg_exe, generate

MakeClip = Callable[[Clip], Path]


@pytest.fixture(scope="session")
def clip(scratch: Path) -> MakeClip:
    """Return generated clips; each is made once a session."""
    return lambda wanted: generate(wanted, scratch / "clips")


async def run_ffmpeg(*arguments: str | Path) -> None:
    """Run FFmpeg on files of a test's own."""
    process = await asyncio.create_subprocess_exec(
        *(ffmpeg_exe(), "-nostdin", "-v", "error", "-y"), *map(str, arguments)
    )
    assert await process.wait() == 0
