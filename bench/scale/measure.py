"""One measurement: a fresh cluster, so many slots, a steady window, and what it cost."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats

from bench.report import say
from bench.scale.costs import CostMeter, Costs, connection, count_statements
from bench.scale.fleet import fleet
from bench.scale.load import LONGEST_S, Wish, ask, backlog, put_source, wishes
from bench.scale.pace import LEAST_PER_SECOND, MOST_PER_SECOND
from bench.scale.spans import Span, Window, read_spans
from bench.stage import NO_QUOTAS
from services.common.subjects import EVENTS_CONSUMER, EVENTS_STREAM, TASKS_STREAM, Lane
from services.local.cluster import LocalCluster

WARM_UP_S = 20
# The sound of the very long exports comes first: more than a minute each, and no chunks.
BACKLOG_WARM_UP_S = 100
# How long after the window the encoders go on, so that what was begun in it is seen.
AFTER_S = 1
# Slots of one user, where all of them share evenly.
SLOTS_OF_A_USER = 4
LEAST_USERS = 4


@dataclass(frozen=True)
class Scene:
    """What is measured.

    Attributes:
        slots: simulated encoders, of one slot each.
        seconds: length of the window.
        replicas: of the API.
        storage_aside: whether storage is simulated too.
        backlog: chunks that wait beside, of very long exports.
    """

    slots: int
    seconds: float = 60.0
    replicas: int = 1
    storage_aside: bool = False
    backlog: int = 0


@dataclass(frozen=True)
class Seen:
    """What a measurement has seen.

    Attributes:
        due: when tasks were due, by id.
        costs: of the window.
        events_waiting: events that the API had not yet applied in the end.
        tasks_waiting: tasks in JetStream that no slot had taken yet in the end.
        backlog: tasks in rows that were due and not yet sent out in the end.
    """

    scene: Scene
    window: Window
    spans: list[Span]
    due: dict[str, float]
    costs: Costs
    events_waiting: int
    tasks_waiting: int
    backlog: int


class RanDry(Exception):
    """Slots may have been idle for want of work; the measurement says nothing."""


async def observe(scene: Scene, folder: Path) -> Seen:
    """Measure a scene.

    Raises:
        RanDry: there was not always work.
    """
    async with _cluster(scene, folder) as cluster:
        await asyncio.to_thread(put_source, cluster.infrastructure.s3)
        running = fleet(cluster, folder, scene.slots, storage_aside=scene.storage_aside)
        async with running as encoders:
            began = time.monotonic()
            wanted = _wanted(scene)
            await ask(cluster.api.address, wanted)
            users = len({wish.user for wish in wanted})
            took = time.monotonic() - began
            say(f"{len(wanted)} exports of {users} users were asked for in {took:.0f} s")
            await asyncio.sleep(BACKLOG_WARM_UP_S if scene.backlog else WARM_UP_S)
            meter = CostMeter(cluster, encoders.pids)
            before, start = await asyncio.to_thread(meter.read), time.time()
            await asyncio.sleep(scene.seconds)
            window = Window(start, time.time())
            costs = (await asyncio.to_thread(meter.read)).since(before)
            events_waiting, tasks_waiting = await _waiting(cluster)
            due, backlog = await asyncio.to_thread(_rows, cluster)
            await asyncio.sleep(AFTER_S)
    if not backlog:
        raise RanDry(f"no task was waiting for a slot after {scene.seconds:.0f} s")
    spans = await asyncio.to_thread(read_spans, encoders.spans)
    return Seen(scene, window, spans, due, costs, events_waiting, tasks_waiting, backlog)


@asynccontextmanager
async def _cluster(scene: Scene, folder: Path) -> AsyncIterator[LocalCluster]:
    await asyncio.to_thread(_empty, folder)
    cluster = LocalCluster(folder / "cluster", encoders=0, extra_env={"api": NO_QUOTAS}, notify=say)
    try:
        async with cluster:
            await count_statements(cluster)
            for _ in range(1, scene.replicas):
                await cluster.add_api()
            yield cluster
    finally:
        shutil.rmtree(folder / "cluster", ignore_errors=True)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _wanted(scene: Scene) -> list[Wish]:
    """Return exports that keep all slots at work, with half as much again to spare."""
    users = max(LEAST_USERS, scene.slots // SLOTS_OF_A_USER)
    pace = 2 / (LEAST_PER_SECOND + MOST_PER_SECOND)
    # While they are asked for, and while the processes start, slots work already.
    working = scene.seconds + WARM_UP_S + 60
    seconds = max(int(scene.slots * working * pace * 1.5), users * LONGEST_S)
    return [*wishes(users, seconds), *backlog(scene.backlog)]


async def _waiting(cluster: LocalCluster) -> tuple[int, int]:
    """Return the events that are not applied, and the tasks that no encoder has taken."""
    client = await nats.connect(cluster.infrastructure.nats.url)
    try:
        js = client.jetstream()
        events = await js.consumer_info(EVENTS_STREAM, EVENTS_CONSUMER)
        tasks = await js.consumer_info(TASKS_STREAM, Lane.CPU.value)
    finally:
        await client.close()
    waiting = (events.num_pending or 0) + (events.num_ack_pending or 0)
    return waiting, tasks.num_pending or 0


def _rows(cluster: LocalCluster) -> tuple[dict[str, float], int]:
    """Return when every task was due, and how many are due and not sent out."""
    with connection(cluster) as database:
        rows = database.execute("SELECT id, extract(epoch FROM not_before) FROM tasks").fetchall()
        [backlog] = database.execute(
            "SELECT count(*) FROM tasks"
            " WHERE state = 'PENDING' AND lane = 'cpu' AND not_before <= now()"
        ).fetchone() or [0]
    return {task_id: float(time) for task_id, time in rows}, backlog
