"""FFmpeg finds no room where a disk counts as full, and is the real one otherwise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from faults.full_disk import DEVICE, FullDisk
from services.encoder.ffmpeg.process import find_ffmpeg

pytestmark = pytest.mark.skipif(not DEVICE.exists(), reason="there is no /dev/full here")


def encode(disk: FullDisk, output: Path) -> subprocess.CompletedProcess[str]:
    """Run what stands for FFmpeg on a tenth of a second."""
    source = ("-f", "lavfi", "-i", "testsrc=size=64x64:duration=0.1")
    arguments = (disk.ffmpeg, "-nostdin", "-y", "-v", "error", *source, output)
    return subprocess.run(arguments, check=False, capture_output=True, text=True)


def test_only_runs_find_no_room_and_only_while_it_is_full(tmp_path: Path) -> None:
    disk = FullDisk(tmp_path / "programs", "encoder-1")
    disk.prepare()
    run = tmp_path / "run_1" / "output.mp4"
    run.parent.mkdir()
    trial = tmp_path / "trial.mp4"

    assert encode(disk, run).returncode == 0
    disk.fill()
    refused = encode(disk, run)
    assert refused.returncode != 0
    assert "No space left on device" in refused.stderr
    assert encode(disk, trial).returncode == 0
    disk.has_room()
    run.unlink()
    assert encode(disk, run).returncode == 0
    assert run.stat().st_size == trial.stat().st_size


def test_program_tells_the_same_version(tmp_path: Path) -> None:
    disk = FullDisk(tmp_path, "encoder-1")
    disk.prepare()
    ask = [str(disk.ffmpeg), "-version"], [str(find_ffmpeg()), "-version"]
    ours, theirs = (subprocess.run(each, check=True, capture_output=True).stdout for each in ask)
    assert ours == theirs
