"""What the rows, the streams and the bucket of the cluster hold, past all that may be broken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nats
import psycopg
from nats.aio.client import Client
from nats.js import JetStreamContext
from psycopg.rows import dict_row

from faults.cluster import FaultCluster
from services.common.subjects import EVENTS_STREAM, EXPORTS_STREAM, TASKS_STREAM
from services.local.cluster import BUCKET
from tests.media.frame_codes import read_frame_numbers
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

Row = dict[str, Any]

POLL_S = 0.02
# All waits of a cluster of faults are shorter: silence of an encoder, of a replica of the API.
WITHIN_S = 60.0


class Truth:
    """Reads the servers themselves, not by way of the relays; an async context manager.

    Attributes:
        nats: a connection that outlasts whatever happens to NATS.
    """

    def __init__(self, faulty: FaultCluster) -> None:
        self._infrastructure = faulty.cluster.infrastructure
        self.nats = Client()

    async def __aenter__(self) -> Self:
        """Connect to NATS; Postgres is connected to for each question."""
        servers = [server.url for server in self._infrastructure.nats_servers]
        self.nats = await nats.connect(
            servers, max_reconnect_attempts=-1, reconnect_time_wait=0.2, error_cb=_ignore
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self.nats.close()

    @property
    def js(self) -> JetStreamContext:
        """JetStream, asked directly."""
        return self.nats.jetstream(timeout=2)

    async def postgres(self) -> psycopg.AsyncConnection[Row]:
        """Return a new connection; use it with `async with`."""
        return await psycopg.AsyncConnection.connect(
            self._infrastructure.postgres.url, row_factory=dict_row, connect_timeout=2
        )

    async def rows(self, query: str, *values: object) -> list[Row]:
        """Return the rows of a query, which may also change something."""
        async with await self.postgres() as connection:
            cursor = await connection.execute(query, values)
            return [] if cursor.description is None else await cursor.fetchall()

    async def value(self, query: str, *values: object) -> Any:
        """Return the one value of a query."""
        [row] = await self.rows(query, *values)
        [value] = row.values()
        return value

    async def export(self, export_id: str) -> Row:
        """Return the row of an export."""
        [row] = await self.rows("SELECT * FROM exports WHERE id = %s", export_id)
        return row

    async def tasks(self, export_id: str) -> list[Row]:
        """Return the tasks of an export with the number of their runs, a probe before the rest.

        They are all as old as the export, and identifiers of one millisecond have no order.
        """
        return await self.rows(
            "SELECT *, (SELECT count(*) FROM runs WHERE task_id = tasks.id) AS run_count"
            " FROM tasks WHERE export_id = %s ORDER BY kind <> 'PROBE', id",
            export_id,
        )

    async def times_completed(self, export_id: str) -> int:
        """Return how often an export has become COMPLETED, by its history."""
        return int(
            await self.value(
                "SELECT count(*) FROM state_changes WHERE export_id = %s AND task_id IS NULL"
                " AND to_state = 'COMPLETED'",
                export_id,
            )
        )

    async def messages(self, stream: str, subject: str = ">") -> int:
        """Return how many messages a stream holds under a subject."""
        info = await self.js.stream_info(stream, subjects_filter=subject)
        return sum((info.state.subjects or {}).values())

    async def ends_told(self, export_id: str, state: str) -> int:
        """Return how often other services were told that an export ended so."""
        return await self.messages(EXPORTS_STREAM, f"videoexport.exports.{export_id}.{state}")

    def objects(self, user: str, prefix: str = "exports") -> list[str]:
        """Return the keys of a user's objects."""
        listed = self._infrastructure.s3.client().list_objects_v2(
            Bucket=BUCKET, Prefix=f"{prefix}/{user}/"
        )
        return sorted(item["Key"] for item in listed.get("Contents", []))

    def uploads(self, user: str) -> list[str]:
        """Return the keys of a user's unfinished uploads."""
        listed = self._infrastructure.s3.client().list_multipart_uploads(Bucket=BUCKET)
        keys = [item["Key"] for item in listed.get("Uploads", [])]
        return [key for key in keys if f"/{user}/" in key]

    async def leftovers(self, user: str) -> dict[str, object]:
        """Return what is there although every export of a user has ended; empty when all is well.

        What is due later is none: each object is looked at once more after ten minutes.
        """
        ends = await self.rows(
            "SELECT id, state, output_run_id FROM exports WHERE user_id = %s", user
        )
        expected = sorted(
            f"exports/{user}/{end['id']}/{end['output_run_id']}.mp4"
            for end in ends
            if end["state"] == "COMPLETED"
        )
        objects = await asyncio.to_thread(self.objects, user)
        found: dict[str, object] = {
            "tasks": await self.value(
                "SELECT count(*) FROM tasks WHERE user_id = %s"
                " AND state IN ('PENDING', 'DISPATCHED', 'RUNNING')",
                user,
            ),
            "exports": sum(end["state"] in ("QUEUED", "PROCESSING") for end in ends),
            "ends to be told": await self.value("SELECT count(*) FROM announcements"),
            "deletions": await self.value(
                "SELECT count(*) FROM object_deletions WHERE user_id = %s"
                " AND not_before < now() + interval '1 minute'",
                user,
            ),
            "objects": [] if objects == expected else {"are": objects, "should be": expected},
            "uploads": await asyncio.to_thread(self.uploads, user),
            "messages of tasks": await self.messages(TASKS_STREAM),
            "messages of events": await self.messages(EVENTS_STREAM),
        }
        return {name: value for name, value in found.items() if value}

    async def nothing_left(self, user: str, within: float = WITHIN_S) -> None:
        """Wait until nothing is left over of a user's exports.

        Raises:
            AssertionError: naming what is.
        """
        deadline = asyncio.get_running_loop().time() + within
        while left := await self.leftovers(user):
            assert asyncio.get_running_loop().time() < deadline, f"left over: {left}"
            await asyncio.sleep(0.2)


async def until(
    condition: Callable[[], Awaitable[object]], within: float = WITHIN_S, poll: float = POLL_S
) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError
    """
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(poll)


async def completed(
    client: AsyncClient, export_id: str, frames: Sequence[int], folder: Path
) -> pb.Export:
    """Wait for the end of an export and check its file: its SHA-256, and every frame of it."""
    async with asyncio.timeout(WITHIN_S):
        done = await client.wait(export_id)
    target = folder / f"{export_id}.mp4"
    await client.download(done, target)
    assert done.output.frame_count == done.plan.frame_count == len(frames)
    assert await asyncio.to_thread(read_frame_numbers, target) == list(frames)
    return done


async def all_completed(
    client: AsyncClient, export_ids: Iterable[str], frames: Sequence[int], folder: Path
) -> None:
    """Check several exports of the same frames, all ends first."""
    ids = list(export_ids)
    async with asyncio.timeout(2 * WITHIN_S):
        await asyncio.gather(*(client.wait(export_id) for export_id in ids))
    for export_id in ids:
        await completed(client, export_id, frames, folder)


async def _ignore(_error: Exception) -> None:
    """Say nothing of servers that are away: that is what is tried."""
