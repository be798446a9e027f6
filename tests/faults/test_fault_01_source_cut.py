"""Fault 1: the connection that a source is read by is cut on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from faults.cluster import FaultCluster
from faults.s3_door import Harm, Operation
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import check_exact, check_tidy, finish, task_events
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]
# Filler makes it some megabytes, which take many requests.
PADDED = ("-b:v", "20M", "-maxrate", "20M", "-bufsize", "2M", "-x264-params", "nal-hrd=cbr")
LARGE = Clip(frames=75, encoder=("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", *PADDED))


async def test_source_that_is_cut_again_and_again_is_exported_whole(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(LARGE))
    s3 = faulty.network.between("*", "s3")
    reads = 0

    def cut_now_and_then(operation: Operation, path: str) -> None:
        nonlocal reads
        if operation is Operation.GET and video_id in path:
            reads += 1
            if reads % 5 == 0:
                # In the middle of the answer, which takes that long on a slow line.
                asyncio.get_running_loop().call_later(0.02, s3.cut)

    s3.delay = 0.005
    cut = faulty.s3_door.harm(Operation.GET, Harm.CUT_BODY, times=8, key=video_id)
    faulty.s3_door.on_request = cut_now_and_then
    async with task_events(faulty) as events:
        export = await client.create_export(video_id, settings=SMALL)
        done = await finish(client, export.id)
    assert cut.met == 8
    assert reads > 20
    # It was read on where it broke off: no run was lost by it, and none made less.
    assert events.kinds(export.id) == ["started", "succeeded"]
    faulty.heal()
    await check_exact(client, done, range(LARGE.frames), tmp_path)
    await check_tidy(leftovers, outputs=1)
