"""Fault 12: the storage service is killed in the middle of an upload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from faults.cluster import FaultCluster
from faults.s3_door import Harm, Operation
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import SHORT, check_exact, check_tidy, export_of, finish, task_events
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]


async def test_uploads_go_on_when_storage_is_back(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    # Probed before: each of the two takes an encoder of its own at once.
    await client.plan(video_id, settings=SMALL)
    # Whoever is first waits in the middle of sending, the other one before its parts are joined.
    waiting = [
        faulty.s3_door.harm(operation, Harm.SLOW, seconds=8, key=f"/exports/{client.user}/")
        for operation in (Operation.PUT, Operation.COMPLETE)
    ]
    reached: dict[str, Operation] = {}

    def kill(operation: Operation, path: str) -> None:
        if operation not in (Operation.PUT, Operation.COMPLETE) or not export_of(path):
            return
        reached[export_of(path)] = operation
        if sorted(reached.values(), key=str) == [Operation.COMPLETE, Operation.PUT]:
            faulty.s3_door.on_request = lambda _operation, _path: None
            faulty.cluster.kill("storage")
            for rule in waiting:
                rule.over.set()

    before = faulty.s3_door.requests[Operation.CREATE]
    faulty.s3_door.on_request = kill
    async with task_events(faulty) as events:
        exports = [
            (await client.create_export(video_id, cut, settings=SMALL)).id
            for cut in ([(0, 1)], [(1, 2)])
        ]
        done = [await finish(client, export) for export in exports]
    assert set(reached.values()) == {Operation.COMPLETE, Operation.PUT}
    # Neither encoded again nor sent again from the beginning: the state of an upload is in S3.
    for export in exports:
        assert events.kinds(export) == ["started", "succeeded"]
    assert faulty.s3_door.requests[Operation.CREATE] - before == len(exports)
    await check_exact(client, done[0], range(25), tmp_path)
    await check_exact(client, done[1], range(25, 50), tmp_path)
    await check_tidy(leftovers, outputs=2)
