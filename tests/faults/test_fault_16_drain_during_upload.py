"""Fault 16: an encoder is told to leave, while it encodes and while it uploads.

While it encodes: tests/e2e/test_encoder_drain.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil

from faults.cluster import FaultCluster
from faults.s3_door import Harm, Operation
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import SHORT, check_exact, check_tidy, export_of, finish, task_events
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]


async def test_upload_ends_within_the_grace_or_is_left_to_others(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    # Probed before: each of the two takes an encoder of its own at once.
    await client.plan(video_id, settings=SMALL)
    place = f"/exports/{client.user}/"
    faulty.s3_door.harm(Operation.PUT, Harm.SLOW, seconds=1, key=place)
    faulty.s3_door.harm(Operation.PUT, Harm.STALL, key=place)
    terminated: dict[str, psutil.Process] = {}

    def terminate(operation: Operation, path: str) -> None:
        export = export_of(path)
        if operation is Operation.PUT and export and export not in terminated:
            encoder = events.of(export)[-1][1]
            terminated[export] = psutil.Process(faulty.cluster.pids[encoder])
            terminated[export].terminate()

    async with task_events(faulty) as events:
        faulty.s3_door.on_request = terminate
        exports = [
            (await client.create_export(video_id, cut, settings=SMALL)).id
            for cut in ([(0, 1)], [(1, 2)])
        ]
        done = [await finish(client, export) for export in exports]
    # In the order in which they came to their upload.
    slow, stuck = terminated
    (start, encoder), end = events.of(slow)
    assert (start, end) == ("started", ("succeeded", encoder))
    (start, leaving), handed_back, (start_again, other), end = events.of(stuck)
    assert (start, handed_back) == ("started", ("released", leaving))
    assert (start_again, end) == ("started", ("succeeded", other))
    _, running = await asyncio.to_thread(psutil.wait_procs, list(terminated.values()), 30)
    assert running == []
    await check_exact(client, done[0], range(25), tmp_path)
    await check_exact(client, done[1], range(25, 50), tmp_path)
    await check_tidy(leftovers, outputs=2)
