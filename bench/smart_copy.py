"""Copied beside encoded: 5 minutes of 1080p, of which only what lies beside the cuts is encoded.

Both exports keep the source's size; the one that is encoded has the default quality. Every
picture that the plan says is copied is then looked for in the source, byte by byte.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import av

from bench import ffmpeg, sources
from bench.quality import count_frames
from bench.report import Figure, say
from bench.stage import Shape, Stage, stage
from videoexport.v1 import export_pb2 as pb

LEAST_FASTER = 15.0
# Neither end lies on a keyframe, which are on even seconds.
SEGMENT = (31.32, 331.32)
COPIED = pb.ExportSettings(quality=pb.QUALITY_SOURCE)
ENCODED = pb.ExportSettings(
    resolution=pb.RESOLUTION_SOURCE,
    quality=pb.QUALITY_MEDIUM,
    encoder=pb.ENCODER_PREFERENCE_CPU,
)


@dataclass(frozen=True, slots=True)
class Made:
    """An export and what it cost.

    Attributes:
        cpu: seconds of the encoder with all its children.
        copied: frames that its plan says are copied.
        same: pictures of the file that lie in the source as they are, byte for byte.
        complaints: of a decoder that is told to be strict.
    """

    wall: float
    cpu: float
    frames: int
    copied: int
    same: int
    complaints: list[str]


async def measure(folder: Path) -> list[Figure]:
    """Return how many times as fast a copy is, and whether it is one."""
    source = await sources.six_steady_minutes(folder)
    async with stage(folder, Shape()) as ready:
        video_id = await ready.probed(source)
        copied = await _make(ready, video_id, source, "copied", COPIED)
        encoded = await _make(ready, video_id, source, "encoded", ENCODED)
    return figures(copied, encoded)


def figures(copied: Made, encoded: Made) -> list[Figure]:
    """Return what the two exports say."""
    faster = encoded.wall / copied.wall
    changed = copied.copied - copied.same
    off = copied.frames - encoded.frames
    complaints = len(copied.complaints)
    return [
        Figure(
            *("smart_copy", faster, "× as fast as encoding", f"≥ {LEAST_FASTER:g} ×"),
            met=faster >= LEAST_FASTER,
        ),
        Figure(
            *("smart_copy.changed", changed, "copied frames that are not the source's", "0"),
            met=changed == 0 and copied.copied > 0,
        ),
        Figure("smart_copy.frames_off", off, "frames", "0", off == 0),
        Figure("smart_copy.warnings", complaints, "lines", "0", complaints == 0),
        Figure("smart_copy.copied", copied.copied / copied.frames, "of the frames"),
        *(
            Figure(f"smart_copy.{name}_{detail}", value, unit)
            for name, made in (("copied", copied), ("encoded", encoded))
            for detail, value, unit in (("time", made.wall, "s"), ("cpu", made.cpu, "CPU s"))
        ),
    ]


async def _make(
    ready: Stage, video_id: str, source: Path, name: str, settings: pb.ExportSettings
) -> Made:
    cpu = ready.cpu_seconds("encoder-1")
    wall, done = await ready.export(video_id, [SEGMENT], settings=settings, keep=True)
    cpu = ready.cpu_seconds("encoder-1") - cpu
    if done.warnings:
        raise RuntimeError(f"{name}: {done.warnings[0].message}")
    output = await ready.client.download(done, ready.outputs / f"{name}.mp4")
    same = 0
    if done.plan.copied_frame_count:
        theirs, ours = await asyncio.gather(
            asyncio.to_thread(pictures, source), asyncio.to_thread(pictures, output)
        )
        known = set(theirs)
        same = sum(digest in known for digest in ours)
    made = Made(
        *(wall, cpu, count_frames(output), done.plan.copied_frame_count, same),
        complaints=await ffmpeg.complaints(output),
    )
    say(
        f"smart_copy: {name}: {wall:.1f} s, encoder {cpu:.1f} CPU s, "
        f"{made.copied} of {made.frames} frames copied, {done.output.size_bytes} bytes"
    )
    return made


def pictures(path: Path) -> list[bytes]:
    """Return the digest of every picture of a file, as it lies in it."""
    with av.open(str(path)) as file:
        return [sha256(bytes(packet)).digest() for packet in file.demux(video=0) if packet.size]
