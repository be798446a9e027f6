"""What SIGKILL of the encoder at 60 % of an export in parts costs: frames encoded again.

A frame counts as encoded whenever a run of its chunk began, so the unfinished run of the
killed encoder counts in full: what it had really encoded died with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import psycopg

from bench import sources
from bench.report import Figure, say
from bench.stage import EXPORT_TIMEOUT_S, SETTINGS, Shape, Stage, stage
from videoexport.v1 import export_pb2 as pb

KILL_AT = 60.0
SLOTS = 1
SEGMENT = (61.32, 181.32)
QUERY = """
    SELECT tasks.kind, tasks.frames, count(runs.id)
    FROM tasks LEFT JOIN runs ON runs.task_id = tasks.id
    WHERE tasks.export_id = %s AND tasks.kind <> 'PROBE'
    GROUP BY tasks.id
"""


@dataclass(frozen=True, slots=True)
class TaskRuns:
    """A task and how often it was begun.

    Attributes:
        kind: `VIDEO`, `AUDIO` or `ASSEMBLE`.
        frames: of the output that it makes.
        runs: 0 where its part was there already.
    """

    kind: str
    frames: int
    runs: int


async def measure(folder: Path) -> list[Figure]:
    """Return how much was encoded again, and the times with and without the kill."""
    source = await sources.ten_minutes(folder)
    async with stage(folder, Shape()) as ready:
        # Each from a source of its own, so that nothing of the first is used for the second.
        quiet, _ = await ready.export(await ready.probed(source), [SEGMENT])
        disturbed, export_id, at_kill = await _killed(ready, await ready.probed(source))
        tasks = await _task_runs(ready, export_id)
    lost = lost_runs(tasks)
    again, longest = encoded_again(tasks)
    chunks = again / (longest * SLOTS)
    say(
        f"kill: at {at_kill:.0f} %, {lost} runs lost, {again} frames again of chunks of at most "
        f"{longest}; {disturbed:.1f} s instead of {quiet:.1f} s"
    )
    if not lost:
        raise RuntimeError("the encoder was killed between two runs")
    return [
        Figure("kill", chunks, "chunks a slot again", "≤ 1", chunks <= 1),
        Figure("kill.frames_again", again, "frames"),
        Figure("kill.chunk", longest, "frames"),
        Figure("kill.runs_lost", lost, "runs"),
        Figure("kill.time", disturbed, "s"),
        Figure("kill.time_undisturbed", quiet, "s"),
    ]


def encoded_again(tasks: Sequence[TaskRuns]) -> tuple[int, int]:
    """Return the frames of chunks that were begun again, and those of the longest chunk."""
    chunks = [task for task in tasks if task.kind == "VIDEO"]
    again = sum(task.frames * max(0, task.runs - 1) for task in chunks)
    return again, max(task.frames for task in chunks)


def lost_runs(tasks: Sequence[TaskRuns]) -> int:
    """Return how many runs made nothing, of any kind of task."""
    return sum(max(0, task.runs - 1) for task in tasks)


async def _killed(ready: Stage, video_id: str) -> tuple[float, str, float]:
    """Return the seconds of an export whose encoder is killed, its id, its progress then."""
    began = perf_counter()
    export = await ready.client.create_export(video_id, [SEGMENT], settings=SETTINGS)
    at_kill = None
    async with (
        asyncio.timeout(EXPORT_TIMEOUT_S),
        aclosing(ready.client.watch(export.id)) as states,
    ):
        async for export in states:
            if at_kill is None and export.progress >= KILL_AT:
                at_kill = export.progress
                ready.cluster.kill("encoder-1")
    if export.state != pb.EXPORT_STATE_COMPLETED or at_kill is None:
        raise RuntimeError(f"the export ended as {pb.ExportState.Name(export.state)}")
    if export.output.frame_count != export.plan.frame_count:
        raise RuntimeError(f"the service made {export.output.frame_count} frames")
    return perf_counter() - began, export.id, at_kill


async def _task_runs(ready: Stage, export_id: str) -> list[TaskRuns]:
    url = ready.cluster.infrastructure.postgres.url
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await connection.execute(QUERY, [export_id])
        return [TaskRuns(*row) for row in await rows.fetchall()]
