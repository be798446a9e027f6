"""`python -m services.local.demo` as a person runs it: from nothing to a file, or interrupted."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import psutil
import pytest

from services.local.demo import choose_segments
from tests.media.frame_codes import Clip, generate, read_frame_numbers

SOURCE = Clip(rate=Fraction(25), frames=150, clicks=None)
TIMEOUT_S = 120


@pytest.fixture
def root() -> Iterator[Path]:
    # Not pytest's folder: see tests/integration/local.
    path = Path(tempfile.mkdtemp(prefix="videoexport-test-"))
    yield path
    shutil.rmtree(path)


async def demo(root: Path, source: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.local.demo", *options),
        *("--data", root / "data", "--output", root / "out" / "demo.mp4", "--source", source),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def processes_of(root: Path) -> list[str]:
    """Return what still runs with the folder in its arguments."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(root) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.long
async def test_demo_is_interrupted_cleanly_and_then_makes_the_file(root: Path) -> None:
    source = generate(SOURCE, root / "clips")
    interrupted = await demo(root, source)
    assert interrupted.stderr is not None
    async with asyncio.timeout(TIMEOUT_S):
        while b"Upload" not in await interrupted.stderr.readline():
            pass
        interrupted.send_signal(signal.SIGINT)
        _, err = await interrupted.communicate()
    assert interrupted.returncode == 130
    assert b"everything is stopped" in err
    assert processes_of(root) == []

    process = await demo(root, source)
    async with asyncio.timeout(TIMEOUT_S):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert processes_of(root) == []
    numbers = read_frame_numbers(root / "out" / "demo.mp4")
    for stage in ("Upload", "Encode", "Verify", "Download"):
        assert stage in err.decode()
    for words in (f"Frames      {len(numbers)}", "libx264 on the CPU", "demo.mp4"):
        assert words in out.decode()
    # Times between two frames are rounded to the nearer one, halves up.
    ranges = [
        [int(edge.total_seconds() * 25 + 0.5) for edge in segment]
        for segment in choose_segments(timedelta(seconds=SOURCE.seconds))
    ]
    assert numbers == [number for start, end in ranges for number in range(start, end)]


@pytest.mark.long
async def test_edit_is_shown_beside_the_first_export_and_reuses_it(root: Path) -> None:
    rate = 5
    long = Clip(rate=Fraction(rate), frames=50 * rate, gop=2 * rate, clicks=2.0)
    process = await demo(root, generate(long, root / "clips"), "--edit")
    async with asyncio.timeout(TIMEOUT_S):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    header, first, edited, last = out.decode().splitlines()
    assert header.split("  ")[0] == "EXPORT"
    assert first.split()[:4] == ["first", "225", "225", "0%"]
    words = edited.split()
    assert words[:3] == ["cut", "moved", "215"]
    assert int(words[3]) < 60, "it was encoded again"
    assert last.startswith("The edit took ")
    for name, frames in (("demo.mp4", 225), ("demo-edited.mp4", 215)):
        assert len(read_frame_numbers(root / "out" / name)) == frames
