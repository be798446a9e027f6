"""Finished files, played through: every frame, by the number that it carries, and the sound."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.media.frame_codes import UnreadableFrame, ffmpeg_exe, read_frame

# The codes outlast it, and a pipe carries a sixty-fourth.
WIDTH, HEIGHT = 160, 90
TIMEOUT_S = 120


def problem_of(path: Path, frames: Sequence[int]) -> str | None:
    """Return what is wrong with a file that is to show frames of these numbers; None if nothing.

    Nothing that a decoder would conceal counts as right.
    """
    done = subprocess.run(
        [
            *(ffmpeg_exe(), "-nostdin", "-v", "error", "-xerror", "-err_detect", "explode"),
            *("-i", str(path), "-map", "0:v:0", "-vf", f"scale={WIDTH}:{HEIGHT},format=gray"),
            *("-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"),
            *("-map", "0:a:0", "-f", "null", "-"),
        ],
        check=False,
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode or done.stderr:
        words = done.stderr.decode(errors="replace").strip()
        return f"it does not play through (status {done.returncode}): {words[-300:]}"
    pictures = np.frombuffer(done.stdout, dtype=np.uint8).reshape(-1, HEIGHT, WIDTH)
    try:
        shown = [read_frame(picture).number for picture in pictures]
    except UnreadableFrame as error:
        return f"a frame cannot be read: {error}"
    if len(shown) != len(frames):
        return f"it has {len(shown)} frames, {len(frames)} were ordered"
    wrong = next((i for i, (a, b) in enumerate(zip(shown, frames, strict=True)) if a != b), None)
    if wrong is not None:
        return f"frame {wrong} shows {shown[wrong]} of the source, not {frames[wrong]}"
    return None
