"""A short export behind another user's long one: 10 s of 720p behind 60 minutes.

The long one is the ten minutes six times over: an hour of output, and more to encode than the
short ones could wait for. It has the encoder's only slot for pictures whenever a short one
comes; its sound, one task of minutes, is made beside them at first.
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
IDLE_RUNS = 3
# Seconds before each short export, from the start of the long one or the end of the last short
# one: they come at different places of a chunk.
PAUSES_S = (1.0, 2.0, 4.0, 3.0, 5.0)
# A short export that takes longer counts as if it had taken so long.
PATIENCE_S = 180.0


async def measure(folder: Path) -> list[Figure]:
    """Return how many times as long the short export takes as on an idle cluster."""
    source = await sources.ten_minutes(folder)
    async with (
        stage(folder, Shape()) as ready,
        AsyncClient(ready.cluster.api.address, user="other") as other,
    ):
        video_id = await ready.probed(source)
        idle = [(await ready.export(video_id, [SEGMENT]))[0] for _ in range(IDLE_RUNS)]
        long_id = await _start_long(other, source)
        behind, queued = [], []
        for pause in PAUSES_S:
            await asyncio.sleep(pause)
            wall, waited = await _patiently(ready, video_id)
            behind.append(wall)
            queued.append(waited)
            say(
                f"fairness: idle {median(idle):.2f} s, "
                f"behind {wall:.2f} s of which {waited:.2f} s in the queue"
            )
        long_export = await other.get(long_id)
        if long_export.state != pb.EXPORT_STATE_PROCESSING:
            raise RuntimeError(f"the long export is {pb.ExportState.Name(long_export.state)}")
        await other.delete(long_id)
    ratio = median(behind) / median(idle)
    return [
        Figure("fairness", ratio, "× idle", f"≤ {MOST_RATIO} ×", ratio <= MOST_RATIO),
        Figure("fairness.behind_sound", behind[0] / median(idle), "× idle"),
        Figure("fairness.worst", max(behind) / median(idle), "× idle"),
        Figure("fairness.idle", median(idle), "s"),
        Figure("fairness.behind", median(behind), "s"),
        Figure("fairness.queued", median(queued), "s"),
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


async def _patiently(ready: Stage, video_id: str) -> tuple[float, float]:
    """Return the seconds of a short export, and of these in the queue.

    It is removed where patience ends.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            wall, done = await ready.export(video_id, [SEGMENT])
    except TimeoutError:
        states = (pb.EXPORT_STATE_QUEUED, pb.EXPORT_STATE_PROCESSING)
        async for export in ready.client.list(states=states):
            await ready.client.delete(export.id)
        return PATIENCE_S, PATIENCE_S
    queued = done.start_time.ToDatetime() - done.create_time.ToDatetime()
    return wall, queued.total_seconds()
