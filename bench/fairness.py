"""A short export behind another user's long one: 10 s of 720p behind 60 minutes.

The long one is the ten minutes six times over: an hour of output, and more to encode than the
short one could wait for. It has the encoder's only slot when the short one comes.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from statistics import median

from bench import sources
from bench.report import Figure, say
from bench.stage import CALL_TIMEOUT_S, SETTINGS, Shape, Stage, stage
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

MOST_RATIO = 2
SEGMENT = (61.32, 71.32)
TIMES_OVER = 6
# Seconds after the long export has begun: in its first task, and in later ones.
DELAYS_S = (0.5, 6.0, 11.0, 18.0, 27.0)


async def measure(folder: Path) -> list[Figure]:
    """Return how many times as long the short export takes as on an idle cluster."""
    source = await sources.ten_minutes(folder)
    idle, behind = [], []
    async with (
        stage(folder, Shape()) as ready,
        AsyncClient(ready.cluster.api.address, user="other") as other,
    ):
        video_id = await ready.probed(source)
        for delay in DELAYS_S:
            idle.append((await ready.export(video_id, [SEGMENT]))[0])
            # Uploaded anew: nothing of the last long export is used again.
            long_id = await _start_long(other, source)
            await asyncio.sleep(delay)
            behind.append((await ready.export(video_id, [SEGMENT]))[0])
            await _require_running(other, long_id)
            await other.delete(long_id)
            await _until_idle(ready)
            say(f"fairness: after {delay:g} s: idle {idle[-1]:.2f} s, behind {behind[-1]:.2f} s")
    ratio = median(behind) / median(idle)
    return [
        Figure("fairness", ratio, "× idle", f"≤ {MOST_RATIO} ×", ratio <= MOST_RATIO),
        Figure("fairness.worst", max(behind) / median(idle), "× idle"),
        Figure("fairness.idle", median(idle), "s"),
        Figure("fairness.behind", median(behind), "s"),
    ]


async def _start_long(client: AsyncClient, source: Path) -> str:
    """Order the long export; return its id once an encoder works on it."""
    video_id = await client.upload(source)
    await client.plan(video_id)
    whole = (0, sources.TEN_MINUTES_S)
    export = await client.create_export(video_id, [whole] * TIMES_OVER, settings=SETTINGS)
    async with asyncio.timeout(CALL_TIMEOUT_S), aclosing(client.watch(export.id)) as states:
        async for state in states:
            if state.state == pb.EXPORT_STATE_PROCESSING:
                break
    return export.id


async def _require_running(client: AsyncClient, export_id: str) -> None:
    export = await client.get(export_id)
    if export.state != pb.EXPORT_STATE_PROCESSING:
        raise RuntimeError(f"the long export is {pb.ExportState.Name(export.state)}")


async def _until_idle(ready: Stage) -> None:
    """Wait until no encoder has a task."""
    async with asyncio.timeout(CALL_TIMEOUT_S):
        while any(encoder.running_tasks for encoder in await ready.client.encoders()):
            await asyncio.sleep(0.5)
