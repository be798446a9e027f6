"""A clip to try things out with: a test picture with burnt-in timecode, a tone each second."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg

from services.local.files import make_private_folder
from services.local.part import bare_environment
from services.local.process import Command, run_to_end
from services.local.supervisor import Notify

# Changes with what is in the clip: an old one in a data directory is not taken for it.
CLIP_NAME = "timecode-1-{seconds}s.mp4"
WIDTH, HEIGHT = 1280, 720
FRAMES_PER_SECOND = 25
SECONDS = 60
KEYFRAME_INTERVAL = 50

GENERATION_TIMEOUT_S = 300

# testsrc2 writes time and frame number into its corner in a font of its own, so no font
# needs to be installed; the corner is shown again eight times as large, in whole pixels.
_PICTURE = (
    "[0:v]split[picture][corner];"
    "[corner]crop=100:36:2:2,scale=8*iw:8*ih:flags=neighbor[timecode];"
    "[picture][timecode]overlay=(W-w)/2:H-h-40[video]"
)
# The first tenth of each second is a tone; \, keeps the commas inside the expression.
_TONE = "aevalsrc=exprs=0.25*sin(2*PI*880*t)*lt(mod(t\\,1)\\,0.1):s=48000"


async def timecode_clip(folder: Path, notify: Notify, *, seconds: int = SECONDS) -> Path:
    """Return the clip in `folder`, made there if it is missing, and then said so.

    Raises:
        PartFailed: FFmpeg could not make it.
    """
    clip = folder / CLIP_NAME.format(seconds=seconds)
    if not clip.exists():
        notify("making a test clip with burnt-in timecode and a tone a second")
        make_private_folder(folder)
        unfinished = folder / f".{clip.name}.part"
        await run_to_end(
            Command(
                name="ffmpeg",
                argv=clip_arguments(unfinished, seconds=seconds),
                env=bare_environment(),
                log=folder / "ffmpeg.log",
            ),
            GENERATION_TIMEOUT_S,
        )
        unfinished.replace(clip)
    return clip


def clip_arguments(target: Path, *, seconds: int = SECONDS) -> list[str]:
    """Return the FFmpeg command that makes the clip."""
    picture = f"testsrc2=size={WIDTH}x{HEIGHT}:rate={FRAMES_PER_SECOND}:duration={seconds}"
    return [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *("-nostdin", "-hide_banner", "-loglevel", "warning", "-y"),
        *("-f", "lavfi", "-i", picture),
        *("-f", "lavfi", "-i", f"{_TONE}:d={seconds}"),
        *("-filter_complex", _PICTURE, "-map", "[video]", "-map", "1:a"),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p"),
        *("-g", str(KEYFRAME_INTERVAL), "-c:a", "aac", "-b:a", "128k"),
        # The name of the unfinished file says nothing of its format.
        *("-movflags", "+faststart", "-f", "mp4", str(target)),
    ]
