"""Fault 25: every process is killed at once in the middle of fifty exports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from faults.cluster import FaultCluster
from tests.e2e.small_exports import SMALL
from tests.faults.truth import Truth, completed, until
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient, Timeouts
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
EXPORTS = 50
ENDED_BEFORE = 10
FRAMES = 5
CLIP = Clip(frames=EXPORTS + FRAMES)
WITHIN_S = 120.0


class Progress:
    """The progress of a user's exports as the rows tell it, reading after reading.

    Attributes:
        most: the most that was read of each.
        went_back: what was less than before.
        readings: how often the rows were read.
    """

    def __init__(self, truth: Truth, user: str) -> None:
        self._truth = truth
        self._user = user
        self.most: dict[str, float] = {}
        self.went_back: list[tuple[str, float, float]] = []
        self.readings = 0

    async def read(self) -> None:
        """Read them once."""
        query = "SELECT id, progress FROM exports WHERE user_id = %s"
        for row in await self._truth.rows(query, self._user):
            most = self.most.get(row["id"], 0.0)
            if row["progress"] < most:
                self.went_back.append((row["id"], most, row["progress"]))
            self.most[row["id"]] = row["progress"]
        self.readings += 1

    async def follow(self) -> None:
        """Read for ever, whenever Postgres is there."""
        while True:
            with suppress(psycopg.OperationalError):
                await self.read()
            await asyncio.sleep(0.2)


@pytest.mark.long
async def test_fifty_exports_end_right_although_everything_is_killed(
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    patient = Timeouts(connect=60)
    async with AsyncClient(faulty.cluster.address, user=client.user, timeouts=patient) as client:
        video_id = await client.upload(clip(CLIP))
        numbers = {
            # Each its own frames, so that none can be taken for another.
            (
                await client.create_export(
                    video_id, [(first / 25, (first + FRAMES) / 25)], settings=SMALL
                )
            ).id: range(first, first + FRAMES)
            for first in range(EXPORTS)
        }
        progress = Progress(truth, client.user)
        following = asyncio.create_task(progress.follow())

        async def ended() -> dict[str, str]:
            done = client.list(states=[pb.EXPORT_STATE_COMPLETED])
            return {export.id: export.output.sha256 async for export in done}

        async def enough_ended() -> bool:
            return len(await ended()) >= ENDED_BEFORE

        await until(enough_ended, poll=0.1)
        before = await ended()
        assert len(before) < EXPORTS
        began = time.monotonic()
        for name in faulty.cluster.pids:
            faulty.cluster.kill(name)

        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*(client.wait(export_id) for export_id in numbers))
        print(f"all had ended {time.monotonic() - began:.1f} s after everything was killed")
        # A reader that had died would have seen nothing go back.
        assert not following.done(), following
        following.cancel()
        await progress.read()
        assert progress.readings > 5
        assert progress.most == dict.fromkeys(numbers, 100.0)
        assert progress.went_back == []
        ends = await asyncio.gather(
            *(
                completed(client, export_id, frames, tmp_path)
                for export_id, frames in numbers.items()
            )
        )
        for done in ends:
            assert done.output.sha256 == before.get(done.id, done.output.sha256)
            assert await truth.ends_told(done.id, "completed") == 1
        await truth.nothing_left(client.user)
