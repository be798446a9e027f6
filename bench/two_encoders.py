"""Two encoders of one thread beside one such encoder: 5 minutes of 720p.

An encode of one thread still reads, decodes and scales on further ones, and takes a third
more than a core where there is one to spare. So each encoder is kept on a core of its own,
as if it were a machine of its own; what both do without that is told as well.
"""

from __future__ import annotations

from pathlib import Path

from bench import sources
from bench.report import Figure, say
from bench.stage import Shape, stage

LEAST_SPEEDUP = 1.85
SEGMENT = (61.32, 361.32)
# A shorter one, to see what two encoders do that share the cores.
SHARED_SEGMENT = (361.32, 451.32)


async def measure(folder: Path) -> list[Figure]:
    """Return how many times faster two are, kept on their cores and not."""
    source = await sources.ten_minutes(folder)
    one, one_cores, one_shared = await _export(folder, source, encoders=1)
    two, two_cores, two_shared = await _export(folder, source, encoders=2)
    speedup = one / two
    return [
        Figure(
            "two_encoders", speedup, "× faster", f"≥ {LEAST_SPEEDUP} ×", speedup >= LEAST_SPEEDUP
        ),
        Figure("two_encoders.one", one, "s"),
        Figure("two_encoders.two", two, "s"),
        Figure("two_encoders.shared", one_shared / two_shared, "× faster"),
        Figure("two_encoders.shared_one_cores", one_cores, "cores"),
        Figure("two_encoders.shared_two_cores", two_cores, "cores"),
    ]


async def _export(folder: Path, source: Path, *, encoders: int) -> tuple[float, float, float]:
    """Return the seconds of the long export; the cores that the short one kept busy, its seconds.

    The short one is not kept on a core for each encoder.
    """
    async with stage(folder, Shape(encoders=encoders, threads=1)) as ready:
        video_id = await ready.probed(source)
        cpu = await ready.ffmpeg_cpu()
        shared, _ = await ready.export(video_id, [SHARED_SEGMENT])
        cores = (await ready.ffmpeg_cpu() - cpu) / shared
        ready.keep_apart()
        wall, done = await ready.export(video_id, [SEGMENT])
    if not done.plan.chunk_count:
        raise RuntimeError("not made in parts")
    say(
        f"two_encoders: {encoders} took {wall:.1f} s on cores of their own, "
        f"{shared:.1f} s sharing them ({cores:.2f} busy)"
    )
    return wall, cores, shared
