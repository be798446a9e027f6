"""Images for watermarks."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.media.frame_codes import ffmpeg_exe


def image(kind: str, size: str = "40x20", colour: str = "red", *options: str) -> bytes:
    """Return an image of one colour, such as `red@0.5`.

    Args:
        kind: ending of its file's name.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image.{kind}"
        subprocess.run(
            [
                *(ffmpeg_exe(), "-nostdin", "-v", "error", "-f", "lavfi"),
                *("-i", f"color={colour}:s={size}:d=1:r=5,format=rgba", "-frames:v", "1"),
                *(*options, str(path)),
            ],
            check=True,
        )
        return path.read_bytes()
