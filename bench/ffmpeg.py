"""FFmpeg without a service around it."""

from __future__ import annotations

import asyncio
import resource
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imageio_ffmpeg

from services.common.codecs import H264
from services.encoder.commands.codecs import AUDIO_BIT_RATE, CRF
from videoexport.v1 import export_pb2 as pb

TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run took, in seconds."""

    wall: float
    cpu: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)


@cache
def ffmpeg_exe() -> str:
    """Return the program that the encoder uses as well."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def encoding(threads: int) -> list[str]:
    """Return the options that make of a 16:9 source what the service makes:
    720p, medium quality, index in front.
    """
    return [
        *("-vf", "scale=1280:720:flags=bicubic"),
        *("-c:v", "libx264", "-preset", "medium", "-crf", str(CRF[H264][pb.QUALITY_MEDIUM])),
        *("-threads:v", str(threads), "-c:a", "aac", "-b:a", AUDIO_BIT_RATE),
        *("-movflags", "+faststart"),
    ]


async def run(arguments: Sequence[str], *, folder: Path | None = None) -> Spent:
    """Run FFmpeg to its end with `-nostdin -y -v error`, or a whole command line, as given.

    Args:
        folder: where it runs; what filters write is named without a path.

    Raises:
        RuntimeError: what FFmpeg said when it failed.
        TimeoutError: it did not end.
    """
    command = list(arguments)
    if command[0] != ffmpeg_exe():
        command = [ffmpeg_exe(), "-nostdin", "-y", "-v", "error", *command]
    # Exact: it counts children when they are reaped, and the parts of the cluster live on.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    status, errors = await _run(command, folder)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        raise RuntimeError(f"FFmpeg failed: {errors[-2000:]}")
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Spent(wall, cpu)


async def complaints(path: Path) -> list[str]:
    """Decode a whole file as strictly as FFmpeg can; return every line that it says.

    Raises:
        TimeoutError: it did not end.
    """
    strict = ["-xerror", "-err_detect", "explode"]
    command = [ffmpeg_exe(), "-nostdin", "-hide_banner", "-v", "warning", *strict]
    status, errors = await _run([*command, "-i", str(path), "-f", "null", "-"], None)
    lines = errors.splitlines()
    return lines if lines or not status else [f"exit status {status}"]


async def _run(command: Sequence[str], folder: Path | None) -> tuple[int, str]:
    """Return the exit status, and what it wrote to standard error."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, cwd=folder
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, errors.decode(errors="replace")
