"""What faults act upon, and how it is seen that work goes on."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime
from typing import Any

import grpc.aio
import psutil

from faults.cluster import FaultCluster, family
from faults.fault import NotNow
from faults.rows import Row, Rows, until
from faults.times import now
from services.api.states import ACTIVE_TASKS
from services.common.subjects import Lane
from services.local.services import ServicePart
from videoexport.channel import call_metadata, open_channel
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub

# How long a part is given to have something to lose, before another fault has its turn.
PATIENCE_S = 8.0
# Nothing takes so long that the cluster recovers from.
RECOVERY_S = 60.0
CALL_TIMEOUT_S = 1.0
# A user without exports: what is asked for is the answer alone.
ASKING_USER = "fault-observer"

RUNNING = """
    SELECT runs.id AS run, tasks.id AS task, runs.encoder_id AS encoder, tasks.kind
    FROM runs JOIN tasks ON tasks.id = runs.task_id
    WHERE runs.ended_at IS NULL AND tasks.state = 'RUNNING'
      AND tasks.kind IN ('WHOLE', 'VIDEO') AND runs.encoder_id = %(encoder)s
    ORDER BY runs.started_at DESC
"""
NEXT_RUN = """
    SELECT tasks.state, (
        SELECT min(runs.started_at) FROM runs
        WHERE runs.task_id = tasks.id AND runs.id <> %(run)s AND runs.started_at > %(since)s
    ) AS at
    FROM tasks WHERE tasks.id = %(task)s
"""
DISPATCHED = "SELECT min(dispatched_at) AS at FROM tasks WHERE dispatched_at > %(since)s"
SUCCEEDED = """
    SELECT min(ended_at) AS at FROM tasks WHERE state = 'SUCCEEDED' AND ended_at > %(since)s
"""
ACCEPTED = "SELECT min(created_at) AS at FROM exports WHERE created_at > %(since)s"
# What an encoder has said itself: a run may also be ended by the API, of an encoder that is dead.
WORKED = """
    SELECT least(
        min(started_at) FILTER (WHERE started_at > %(since)s),
        min(runs.ended_at) FILTER (WHERE runs.ended_at > %(since)s AND outcome = 'SUCCEEDED')
    ) AS at
    FROM runs JOIN tasks ON tasks.id = runs.task_id
    WHERE encoder_id = %(encoder)s AND tasks.lane = %(lane)s
"""


class Scene:
    """A running cluster under load."""

    def __init__(self, faulty: FaultCluster, rows: Rows, dice: random.Random) -> None:
        """Nothing is done yet.

        Args:
            dice: decides what no schedule can, such as which of the running tasks is hit.
        """
        self.faulty = faulty
        self.cluster = faulty.cluster
        self.rows = rows
        self.dice = dice

    def api(self, name: str) -> ServicePart:
        """Return a replica of the API by its name."""
        return next(api for api in self.cluster.apis if api.name == name)

    async def kill(self, *names: str) -> datetime:
        """Send SIGKILL to parts; return when they were dead: nothing later is their doing."""
        pids = {self.cluster.pids[name] for name in names if name in self.cluster.pids}
        for name in names:
            self.faulty.kill(name)
        while pids & set(self.cluster.pids.values()):
            await asyncio.sleep(0.01)
        return now()

    # What runs

    async def encoding(self, encoder: str) -> Row:
        """Return what an encoder encodes: `run`, `task`, `encoder`, `kind`.

        Raises:
            NotNow: it encoded nothing all the time.
        """

        async def look() -> Row | None:
            return await self.rows.one(RUNNING, encoder=encoder)

        try:
            return await until(look, PATIENCE_S)
        except TimeoutError:
            raise NotNow(f"{encoder} encodes nothing") from None

    async def ffmpeg(self, encoder: str) -> tuple[Row, psutil.Process]:
        """Return what an encoder encodes, and the FFmpeg that does.

        Raises:
            NotNow: there was none all the time.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    running = await self.encoding(encoder)
                    for process in family(self.cluster.pids.get(encoder, -1)):
                        if _is_ffmpeg_of(process, str(running["run"])):
                            return running, process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise NotNow(f"{encoder} runs no FFmpeg") from None

    # What goes on

    async def run_again(self, running: Row, since: datetime) -> float | None:
        """Return the seconds until a task began again; None where it needs no other run."""

        async def look() -> tuple[float | None] | None:
            row = await self.rows.one(
                NEXT_RUN, since=since, run=running["run"], task=running["task"]
            )
            if row is not None and row["at"] is not None:
                return (_seconds(since, row["at"]),)
            # Deleted with its export, cancelled, or done by the very run that was to fail.
            return (None,) if row is None or row["state"] not in ACTIVE_TASKS else None

        return (await until(look, RECOVERY_S))[0]

    async def dispatched(self, since: datetime) -> float:
        """Return the seconds until the next task was dispatched."""
        return await self._next(DISPATCHED, since)

    async def succeeded(self, since: datetime) -> float:
        """Return the seconds until the next task succeeded."""
        return await self._next(SUCCEEDED, since)

    async def accepted(self, since: datetime) -> float:
        """Return the seconds until the next export was accepted."""
        return await self._next(ACCEPTED, since)

    async def worked(self, encoder: str, since: datetime) -> float:
        """Return the seconds until an encoder began or finished an encode."""
        return await self._next(WORKED, since, encoder=encoder, lane=Lane.CPU.value)

    async def answered(self, api: ServicePart, since: datetime) -> float:
        """Return the seconds until a replica of the API answered from its rows."""
        async with open_channel(api.address) as channel, asyncio.timeout(RECOVERY_S):
            stub = ExportServiceStub(channel)
            while True:
                try:
                    await stub.ListExports(
                        service.ListExportsRequest(page_size=1),
                        metadata=call_metadata(ASKING_USER),
                        timeout=CALL_TIMEOUT_S,
                        wait_for_ready=True,
                    )
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)
                else:
                    return _seconds(since, now())

    async def serving(self, name: str, since: datetime) -> float:
        """Return the seconds until one of the servers that all stand on serves."""
        infrastructure = self.cluster.infrastructure
        parts: dict[str, Any] = {
            "postgres": infrastructure.postgres,
            "s3": infrastructure.s3,
            **{server.name: server for server in infrastructure.nats_servers},
        }
        part = parts[name]

        async def look() -> bool | None:
            # Not the process that was killed just now.
            if name not in self.cluster.pids:
                return None
            try:
                await part.probe()
            except Exception:
                return None
            return True

        await until(look, RECOVERY_S)
        return _seconds(since, now())

    async def _next(self, query: str, since: datetime, **values: object) -> float:
        async def look() -> float | None:
            row = await self.rows.one(query, since=since, **values)
            return None if row is None or row["at"] is None else _seconds(since, row["at"])

        return await until(look, RECOVERY_S)


def _seconds(since: datetime, at: datetime) -> float:
    return (at - since).total_seconds()


def _is_ffmpeg_of(process: psutil.Process, run: str) -> bool:
    try:
        # Everything that a run makes lies in a folder of its name.
        return "ffmpeg" in process.name() and any(run in word for word in process.cmdline())
    except psutil.Error:
        return False
