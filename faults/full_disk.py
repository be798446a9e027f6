"""An FFmpeg whose output finds no room, as on a full disk, as long as it is told so.

Between the encoder and the real FFmpeg stands a script that replaces itself with it. While
the disk counts as full, it first makes the file that FFmpeg is to write a link to /dev/full:
every write there fails as on a disk without room, and no other process of the machine
suffers. macOS has no such device.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from services.encoder.ffmpeg.process import find_ffmpeg

DEVICE = Path("/dev/full")
# What is made for a run lies in a folder of its own; trials and questions for versions do not.
SCRIPT = """#!/bin/sh
if [ -e {flag} ]; then
    for output; do :; done
    case "$output" in */run_*/*) ln -sf {device} "$output" ;; esac
fi
exec {ffmpeg} "$@"
"""


class FullDisk:
    """The scratch disk of one encoder.

    Attributes:
        ffmpeg: the program that the encoder is to run.
    """

    def __init__(self, folder: Path, encoder: str) -> None:
        """Nothing is written yet.

        Args:
            folder: where the script is to lie.
            encoder: the encoder's name.
        """
        self.ffmpeg = folder / f"ffmpeg-{encoder}"
        self._flag = folder / f"{encoder}-has-no-room"

    def prepare(self) -> None:
        """Write the script; the disk has room."""
        self.ffmpeg.parent.mkdir(parents=True, exist_ok=True)
        self.has_room()
        flag, ffmpeg = shlex.quote(str(self._flag)), shlex.quote(str(find_ffmpeg()))
        self.ffmpeg.write_text(SCRIPT.format(flag=flag, device=DEVICE, ffmpeg=ffmpeg))
        self.ffmpeg.chmod(0o755)

    def fill(self) -> None:
        """Let no run that begins from now on find room."""
        self._flag.touch()

    def has_room(self) -> None:
        """Let runs find room again."""
        self._flag.unlink(missing_ok=True)
