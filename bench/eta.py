"""How wrong the ETA is at a quarter, at half and at three quarters of an export's time.

Exports of several lengths, in one run and in parts, alone and two users' at a time, on a
cluster that has measured no speed before. The error is that of the total: what has passed
and the ETA together, beside what it was in the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from bench import sources
from bench.report import Figure, say
from bench.stage import EXPORT_TIMEOUT_S, SETTINGS, Shape, stage
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

MOST_ERROR = 15.0
WAYS = (0.25, 0.5, 0.75)
# Seconds of output, in the order of the source: those of a row at a time, each another user's.
LENGTHS_S = ((30,), (90,), (20, 40), (70, 100), (30, 80))
FIRST_START_S = 4.32


@dataclass(frozen=True, slots=True)
class Watched:
    """What a watcher saw of one export, in seconds since CreateExport.

    Attributes:
        etas: when a state came, and the ETA in it.
        total: when COMPLETED came.
    """

    etas: Sequence[tuple[float, float]]
    total: float

    def error(self, way: float) -> float:
        """Return the relative error of the expected total at a share of the time.

        Where nothing was said until then, it is 1: all of the time was unknown.
        """
        said = [at + eta for at, eta in self.etas if at <= way * self.total]
        return abs(said[-1] - self.total) / self.total if said else 1.0


async def measure(folder: Path) -> list[Figure]:
    """Return the median errors in percent."""
    source = await sources.ten_minutes(folder)
    watched: list[Watched] = []
    async with stage(folder, Shape()) as ready, AsyncExitStack() as opened:
        sides = []
        for user in ("ann", "ben"):
            client = AsyncClient(ready.cluster.api.address, user=user)
            await opened.enter_async_context(client)
            sides.append((client, await client.upload(source)))
            await client.plan(sides[-1][1])
        start = FIRST_START_S
        for lengths in LENGTHS_S:
            exports = []
            for (client, video_id), length in zip(sides, lengths, strict=False):
                exports.append(_watch(client, video_id, (start, start + length)))
                start += length
            for length, seen in zip(lengths, await asyncio.gather(*exports), strict=True):
                watched.append(seen)
                errors = ", ".join(f"{100 * seen.error(way):.0f} %" for way in WAYS)
                say(
                    f"eta: {length} s of {len(lengths)}: took {seen.total:.1f} s; wrong by {errors}"
                )
    return figures(watched)


def figures(watched: Sequence[Watched]) -> list[Figure]:
    """Return the median errors of several exports, and the largest at half-way."""
    quarter, half, three_quarters = (
        [100 * export.error(way) for export in watched] for way in WAYS
    )
    return [
        Figure(
            *("eta", median(half), "% wrong at half-way", f"≤ {MOST_ERROR:g} %"),
            met=median(half) <= MOST_ERROR,
        ),
        Figure("eta.quarter", median(quarter), "% wrong at 25 %"),
        Figure("eta.three_quarters", median(three_quarters), "% wrong at 75 %"),
        Figure("eta.worst_half", max(half), "% wrong at half-way"),
        Figure("eta.exports", len(watched), "exports"),
    ]


async def _watch(client: AsyncClient, video_id: str, segment: tuple[float, float]) -> Watched:
    """Export and note every ETA."""
    began = perf_counter()
    export = await client.create_export(video_id, [segment], settings=SETTINGS)
    etas = []
    async with asyncio.timeout(EXPORT_TIMEOUT_S), aclosing(client.watch(export.id)) as states:
        async for export in states:
            if export.HasField("eta"):
                eta = export.eta.ToTimedelta().total_seconds()
                etas.append((perf_counter() - began, eta))
    if export.state != pb.EXPORT_STATE_COMPLETED:
        raise RuntimeError(f"the export ended as {pb.ExportState.Name(export.state)}")
    return Watched(etas, perf_counter() - began)
