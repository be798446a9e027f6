"""The videos that are exported: generated once, kept below build/."""

from __future__ import annotations

from pathlib import Path

from bench import ffmpeg
from bench.report import say

# What people record and upload; exports of it are 720p.
WIDTH, HEIGHT = 1920, 1080
FRAMES_PER_SECOND = 25
# 2 s, which is what cameras and web encoders commonly use.
KEYFRAME_INTERVAL = 50
MINUTE_S = 60
TEN_MINUTES_S = 600
TWELVE_MINUTES_S = 720
SHORT_S = 2

# Changes with what is in the clips: old ones are not taken for them.
VERSION = 2


async def minute(folder: Path) -> Path:
    """Return 60 s of 1080p with sound: moving shapes under grain, 5 Mb/s, as a camera gives."""
    clip = folder / f"minute-{VERSION}.mp4"
    if not clip.exists():
        say("making a source of 60 s (once)")
        picture = f"testsrc2=size={WIDTH}x{HEIGHT}:rate={FRAMES_PER_SECOND}"
        await _make(
            clip,
            # Without grain the picture would compress, and encode, like a drawing.
            *("-f", "lavfi", "-i", f"{picture},noise=alls=3:allf=t"),
            *("-f", "lavfi", "-i", "anoisesrc=color=pink:amplitude=0.2:sample_rate=48000"),
            *("-t", str(MINUTE_S), "-c:v", "libx264", "-preset", "veryfast", "-crf", "23"),
            *("-maxrate", "12M", "-bufsize", "24M", "-pix_fmt", "yuv420p"),
            *("-g", str(KEYFRAME_INTERVAL), "-keyint_min", str(KEYFRAME_INTERVAL)),
            *("-sc_threshold", "0", "-c:a", "aac", "-ac", "2", "-b:a", "128k"),
        )
    return clip


async def ten_minutes(folder: Path) -> Path:
    """Return the minute ten times over, packets copied."""
    return await _looped(folder, "ten-minutes", TEN_MINUTES_S)


async def twelve_minutes(folder: Path) -> Path:
    """Return the minute twelve times over, packets copied."""
    return await _looped(folder, "twelve-minutes", TWELVE_MINUTES_S)


async def six_steady_minutes(folder: Path) -> Path:
    """Return the pictures of the minute six times over, copied, in step, and a sound as long.

    Where the minute is looped with its sound, which is some milliseconds longer, the time
    between pictures varies.
    """
    clip = folder / f"six-steady-minutes-{VERSION}.mp4"
    if not clip.exists():
        source = await minute(folder)
        say("making a steady source of 6 minutes (once)")
        pictures = folder / f"minute-{VERSION}-pictures.mp4"
        await _make(pictures, "-i", str(source), "-an", "-c", "copy")
        await _make(
            clip,
            *("-stream_loop", "5", "-i", str(pictures)),
            *("-f", "lavfi", "-i", "anoisesrc=color=pink:amplitude=0.2:sample_rate=48000"),
            *("-t", str(6 * MINUTE_S), "-c:v", "copy", "-c:a", "aac", "-ac", "2", "-b:a", "128k"),
        )
        pictures.unlink()
    return clip


async def _looped(folder: Path, name: str, seconds: int) -> Path:
    clip = folder / f"{name}-{VERSION}.mp4"
    if not clip.exists():
        source = await minute(folder)
        say(f"making a source of {seconds // 60} minutes (once)")
        loops = str(seconds // MINUTE_S - 1)
        await _make(clip, "-stream_loop", loops, "-i", str(source), "-c", "copy")
    return clip


async def short(folder: Path) -> Path:
    """Return the first 2 s of the minute, packets copied."""
    clip = folder / f"short-{VERSION}.mp4"
    if not clip.exists():
        source = await minute(folder)
        await _make(clip, "-i", str(source), "-t", str(SHORT_S), "-c", "copy")
    return clip


async def _make(clip: Path, *arguments: str) -> None:
    clip.parent.mkdir(parents=True, exist_ok=True)
    unfinished = clip.with_name(f".{clip.name}")
    await ffmpeg.run([*arguments, "-movflags", "+faststart", str(unfinished)])
    unfinished.replace(clip)
