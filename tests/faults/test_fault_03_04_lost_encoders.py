"""Faults 3 and 4: an encoder is killed; one is paused for longer than the ack wait, then goes on.

Both at once, and at the worst moment, when the file is about to be stored: what they were
doing is waited for together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from faults.cluster import FaultCluster, resume
from faults.s3_door import Operation
from tests.e2e.conftest import Leftovers
from tests.faults.evidence import SHORT, SMALL, check_exact, check_tidy, finish, task_events
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]


async def test_others_finish_what_lost_encoders_were_about_to_store(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    # Two that differ, or the second would be a copy of the first.
    segments = {"killed": [(0.0, 1.0)], "paused": [(1.0, 2.0)]}
    async with task_events(faulty) as events:
        exports = {
            fate: (await client.create_export(video_id, cut, settings=SMALL)).id
            for fate, cut in segments.items()
        }
        lost: dict[str, str] = {}
        paused_pids: list[int] = []

        def lose(operation: Operation, path: str) -> None:
            fate = next((fate for fate, export in exports.items() if export in path), "")
            moment = {"killed": Operation.COMPLETE, "paused": Operation.PUT}.get(fate)
            if operation is not moment or fate in lost:
                return
            lost[fate] = encoder = events.of(exports[fate])[-1][1]
            if fate == "killed":
                faulty.cluster.kill(encoder)
            else:
                paused_pids.append(faulty.pause(encoder))

        faulty.s3_door.on_request = lose
        done = {fate: await finish(client, export) for fate, export in exports.items()}
        assert lost.keys() == exports.keys()
        resume(paused_pids[0])
        # Neither has said a word of how its run ended, until then.
        for fate, export in exports.items():
            first, second, end = events.of(export)[:3]
            assert first == ("started", lost[fate])
            assert (second[0], end) == ("started", ("succeeded", second[1]))
        await check_exact(client, done["killed"], range(25), tmp_path)
        await check_exact(client, done["paused"], range(25, 50), tmp_path)
        await check_tidy(leftovers, outputs=2)
        # Whoever was paused works again, and takes nothing for undone.
        async with asyncio.timeout(30):
            while len(encoders := await client.encoders()) < 3 or any(
                encoder.running_tasks for encoder in encoders
            ):
                await asyncio.sleep(0.2)
    again = {fate: await client.get(export) for fate, export in exports.items()}
    assert all(again[fate].output.sha256 == done[fate].output.sha256 for fate in again)
