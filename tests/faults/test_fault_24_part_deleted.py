"""Fault 24: parts of an export are deleted between its plan and its assembly.

Before it is planned: tests/e2e/test_long_exports.py.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from faults.cluster import FaultCluster
from faults.s3_door import Operation
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import check_exact, check_tidy, finish, task_events
from tests.media.frame_codes import Clip, audio_click_times
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]
LONG = Clip(rate=Fraction(5), frames=70, gop=10, clicks=2.0)


async def test_parts_that_go_while_they_are_joined_are_made_again(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(LONG))
    s3 = faulty.cluster.infrastructure.s3.client()
    gone: list[str] = []

    def delete(operation: Operation, path: str) -> None:
        # Only an assembly reads parts: it has just found all of them there.
        if operation is Operation.GET and f"/cache/{client.user}/" in path and not gone:
            gone.extend(leftovers.objects("cache")[1:])
            for key in gone:
                s3.delete_object(Bucket="videoexport", Key=key)

    faulty.s3_door.on_request = delete
    async with task_events(faulty) as events:
        export = await client.create_export(video_id, settings=SMALL)
        done = await finish(client, export.id)
    # All but one: the sound and pictures.
    assert len(gone) == done.plan.chunk_count
    assert events.failures(export.id) == ["PART_MISSING"]
    assert set(gone) <= set(leftovers.objects("cache"))
    await check_exact(client, done, range(LONG.frames), tmp_path)
    clicks = audio_click_times(tmp_path / f"{done.id}.mp4")
    assert [round(at) for at in clicks] == [2, 4, 6, 8, 10, 12]
    await check_tidy(leftovers, outputs=1)
