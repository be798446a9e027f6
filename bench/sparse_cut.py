"""3 × 4 s out of 10 minutes: the service beside the two-pass way.

The two-pass way downloads the whole source, selects the frames into an intermediate
file, and encodes that. The service starts from a source that it has never seen, so
its time and its bytes include the probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import aiohttp
import av

from bench import ffmpeg, sources
from bench.report import Figure, say
from bench.stage import Stage

RUNS = 5
LEAST_SPEEDUP = 5
MOST_BYTES = 1.5
# None begins or ends on a keyframe: they lie on even seconds.
SEGMENTS = ((61.32, 65.32), (304.72, 308.72), (541.12, 545.12))

DOWNLOAD_TIMEOUT_S = 300
CHUNK_BYTES = 1 << 20


async def measure(stage: Stage) -> list[Figure]:
    """Return the speed-up, and the bytes read beside those that are needed."""
    source = await sources.ten_minutes(stage.folder)
    needed = needed_bytes(source, SEGMENTS)
    service: list[float] = []
    two_pass: list[float] = []
    read: list[float] = []
    for run in range(RUNS):
        video_id = await stage.client.upload(source)
        before = await _bytes_read(stage)
        wall, done = await stage.export(video_id, SEGMENTS)
        read.append(await _bytes_read(stage) - before)
        service.append(wall)
        two_pass.append(await _two_pass(stage, await stage.source_url(video_id)))
        frames = sum(end - start for start, end in SEGMENTS) * sources.FRAMES_PER_SECOND
        if done.output.frame_count != round(frames):
            raise RuntimeError(f"the service made {done.output.frame_count} frames")
        say(
            f"sparse_cut {run + 1}/{RUNS}: service {wall:.2f} s, two-pass {two_pass[-1]:.2f} s; "
            f"read {read[-1] / 1e6:.2f} MB, needed {needed / 1e6:.2f} MB"
        )
    speedup = median(two_pass) / median(service)
    ratio = median(read) / needed
    return [
        Figure("sparse_cut", speedup, "× faster", f"≥ {LEAST_SPEEDUP} ×", speedup >= LEAST_SPEEDUP),
        Figure("sparse_cut.service", median(service), "s"),
        Figure("sparse_cut.two_pass", median(two_pass), "s"),
        Figure(
            "sparse_cut.bytes_ratio",
            ratio,
            "× GOPs and index",
            f"≤ {MOST_BYTES} ×",
            ratio <= MOST_BYTES,
        ),
        Figure("sparse_cut.bytes_read", median(read) / 1e6, "MB"),
        Figure("sparse_cut.bytes_needed", needed / 1e6, "MB"),
        Figure("sparse_cut.source_bytes", source.stat().st_size / 1e6, "MB"),
    ]


async def _bytes_read(stage: Stage) -> float:
    return await stage.counter("videoexport_source_read_bytes_total")


async def _two_pass(stage: Stage, url: str) -> float:
    """Return the seconds that the two-pass way takes."""
    local, cut, output = (
        stage.outputs / f"two-pass-{name}.mp4" for name in ("source", "cut", "end")
    )
    began = perf_counter()
    await _download(stage.http, url, local)
    chosen = "+".join(f"gte(t,{start})*lt(t,{end})" for start, end in SEGMENTS)
    await ffmpeg.run(
        [
            *("-i", str(local)),
            *("-vf", f"select='{chosen}',setpts=N/FRAME_RATE/TB"),
            *("-af", f"aselect='{chosen}',asetpts=N/SR/TB"),
            # The quickest intermediate that does not show in the output.
            *("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12"),
            *("-c:a", "aac", "-b:a", "320k", str(cut)),
        ]
    )
    await ffmpeg.run(["-i", str(cut), *ffmpeg.encoding(stage.threads), str(output)])
    seconds = perf_counter() - began
    for path in (local, cut, output):
        path.unlink()
    return seconds


async def _download(http: aiohttp.ClientSession, url: str, path: Path) -> None:
    timeout = aiohttp.ClientTimeout(total=DOWNLOAD_TIMEOUT_S)
    async with http.get(url, timeout=timeout) as response:
        response.raise_for_status()
        with path.open("wb") as file:
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                file.write(chunk)


def needed_bytes(path: Path, segments: Sequence[tuple[float, float]]) -> int:
    """Return the least that a reader of the segments must read of an mp4, in bytes.

    That is the index, and of each GOP that holds a wanted frame everything from its
    keyframe to the next one, the sound in between included.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        keyframes = [
            (float(packet.pts * packet.time_base), packet.pos)
            for packet in container.demux(stream)
            if packet.is_keyframe and packet.pts is not None and packet.pos is not None
        ]
    total = 0
    ends = [*keyframes[1:], (float("inf"), path.stat().st_size)]
    for (time, position), (next_time, next_position) in zip(keyframes, ends, strict=True):
        if any(start < next_time and end > time for start, end in segments):
            total += next_position - position
    return total + index_bytes(path)


def index_bytes(path: Path) -> int:
    """Return the bytes of an mp4's boxes other than the media itself."""
    total = 0
    with path.open("rb") as file:
        position = 0
        while header := file.read(16):
            size = int.from_bytes(header[:4], "big")
            if size == 1:
                size = int.from_bytes(header[8:16], "big")
            if header[4:8] not in (b"mdat", b"free"):
                total += size
            position += size
            file.seek(position)
    return total
