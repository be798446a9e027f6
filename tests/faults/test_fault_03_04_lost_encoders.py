"""Faults 3 and 4: encoders are killed; one is paused for longer than the ack wait, then goes on.

All at once, and at the worst moments, while the file is being stored: what they were doing
is waited for together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from faults.cluster import FaultCluster, resume
from faults.s3_door import Operation
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import SHORT, check_exact, check_tidy, export_of, finish, task_events
from tests.faults.truth import Truth
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]


async def test_others_finish_what_lost_encoders_were_about_to_store(
    faulty: FaultCluster,
    client: AsyncClient,
    truth: Truth,
    clip: MakeClip,
    leftovers: Leftovers,
    tmp_path: Path,
) -> None:
    video_id = await client.upload(clip(SHORT))
    # Probed before: each of the two takes an encoder of its own at once.
    await client.plan(video_id, settings=SMALL)
    lost: dict[str, str] = {}
    pids: list[int] = []

    def lose(operation: Operation, path: str) -> None:
        export = export_of(path)
        # The first is paused and the second killed while it sends, the third while S3 joins.
        moment = Operation.COMPLETE if len(lost) == 2 else Operation.PUT
        if not export or export in lost or operation is not moment:
            return
        encoder = lost[export] = events.of(export)[-1][1]
        if len(lost) == 1:
            pids.append(faulty.pause(encoder))
        else:
            faulty.cluster.kill(encoder)

    async with task_events(faulty) as events:
        faulty.s3_door.on_request = lose
        exports = [
            (await client.create_export(video_id, cut, settings=SMALL)).id
            for cut in ([(0, 1)], [(1, 2)], [(0.5, 1.5)])
        ]
        done = [await finish(client, export) for export in exports]
        assert lost.keys() == set(exports)
        # None has said a word of how its run ended.
        for export, encoder in lost.items():
            first, (start, other), end = events.of(export)
            assert first == ("started", encoder)
            assert (start, end) == ("started", ("succeeded", other))
        rows = [await truth.export(export) for export in exports]
        resume(pids[0])
        await check_exact(client, done[0], range(25), tmp_path)
        await check_exact(client, done[1], range(25, 50), tmp_path)
        await check_exact(client, done[2], range(13, 38), tmp_path)
        await check_tidy(leftovers, outputs=3)
        # Whoever was paused works again, and takes nothing for undone.
        async with asyncio.timeout(30):
            while len(encoders := await client.encoders()) < 3 or any(
                encoder.running_tasks for encoder in encoders
            ):
                await asyncio.sleep(0.2)
        # Nothing of its run counts, whatever that came to: its bytes would be the same.
        assert [await truth.export(export) for export in exports] == rows
        for export in exports:
            assert await truth.times_completed(export) == 1
            assert await truth.ends_told(export, "completed") == 1
