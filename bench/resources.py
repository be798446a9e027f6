"""Memory of each service and scratch disk of the encoder, while they export.

One export of 60 s, one of 3 × 4 s out of 10 minutes and one of 250 × 0.2 s out of it, watched
twenty times a second.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench import sources
from bench.report import Figure, say
from bench.sparse_cut import SEGMENTS
from bench.stage import Stage

INTERVAL_S = 0.05
SERVICES = ("api", "storage", "encoder-1")
# The output's index is written at its end and moved to the front within the file; beside
# it lie the filter graphs.
MOST_SCRATCH = 1.1
SCRIPTS_BYTES = 64 << 10
# From one end of the source to the other, each in a GOP of its own and too far from the next to
# be read through one input, in one run of FFmpeg.
MANY_SEGMENTS = tuple((0.9 + 2.4 * place, 1.1 + 2.4 * place) for place in range(249, -1, -1))
MOST_MEMORY_MB = 1000


@dataclass
class Peaks:
    """The most that was seen.

    Attributes:
        memory: resident bytes by service, and of `ffmpeg`.
        encoder: resident bytes of the encoder and all its children at one moment.
        scratch: bytes on the encoder's scratch disk.
    """

    memory: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    encoder: int = 0
    scratch: int = 0


async def measure(stage: Stage) -> list[Figure]:
    """Return the peaks; the memory of a service is its own since it was started."""
    minute = await stage.client.upload(await sources.minute(stage.folder))
    long_source = await sources.ten_minutes(stage.folder)
    ten_minutes = await stage.client.upload(long_source)
    peaks = Peaks()
    watching = asyncio.create_task(_watch(stage, peaks))
    ratios = []
    for name, video_id, segments in (("60 s", minute, ()), ("3 × 4 s", ten_minutes, SEGMENTS)):
        peaks.scratch = 0
        _, done = await stage.export(video_id, segments)
        size = done.output.size_bytes
        ratios.append(max(0, peaks.scratch - SCRIPTS_BYTES) / size)
        say(f"memory: {name} made {size} bytes, scratch held {peaks.scratch} at most")
    of_source = peaks.scratch / long_source.stat().st_size
    megabytes = {name: size / 1e6 for name, size in peaks.memory.items()}
    peaks.encoder = 0
    _, done = await stage.export(ten_minutes, MANY_SEGMENTS)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    many = peaks.encoder / 1e6
    say(f"memory: {len(MANY_SEGMENTS)} segments made {done.output.frame_count} frames")
    return [
        Figure("memory", sum(megabytes[name] for name in SERVICES), "MB, all services"),
        *(Figure(f"memory.{name}", value, "MB") for name, value in sorted(megabytes.items())),
        Figure(
            "memory.many_segments",
            many,
            "MB, encoder and FFmpeg",
            f"≤ {MOST_MEMORY_MB} MB",
            many <= MOST_MEMORY_MB,
        ),
        Figure(
            "scratch",
            max(ratios),
            "× output",
            f"≤ {MOST_SCRATCH} ×",
            max(ratios) <= MOST_SCRATCH,
        ),
        Figure("scratch.of_source", of_source, "× source"),
    ]


async def _watch(stage: Stage, peaks: Peaks) -> None:
    scratch = stage.cluster.directory / "scratch"
    while True:
        await asyncio.to_thread(_look, stage, scratch, peaks)
        await asyncio.sleep(INTERVAL_S)


def _look(stage: Stage, scratch: Path, peaks: Peaks) -> None:
    held = 0
    for process in stage.processes("encoder-1"):
        with suppress(psutil.NoSuchProcess):
            held += process.memory_info().rss
    peaks.encoder = max(peaks.encoder, held)
    for service in SERVICES:
        for process in stage.processes(service):
            with suppress(psutil.NoSuchProcess):
                is_ffmpeg = "ffmpeg" in process.name()
                own = process.pid == stage.cluster.pids[service]
                name = "ffmpeg" if is_ffmpeg else service if own else f"{service}.children"
                peaks.memory[name] = max(peaks.memory[name], _peak_memory(process))
    peaks.scratch = max(peaks.scratch, _folder_bytes(scratch))


def _peak_memory(process: psutil.Process) -> int:
    """Return the most that a process ever held, where the system says; else what it holds now."""
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return process.memory_info().rss


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        # Files come and go while we look.
        with suppress(OSError):
            if path.is_file():
                total += path.stat().st_size
    return total
