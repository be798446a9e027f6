"""Fault 11: S3 answers 500 and 503, slowly, not at all, or other than it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from faults.cluster import FaultCluster
from faults.s3_door import Harm, Operation
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import SHORT, check_exact, check_tidy, finish, task_events
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]
# Of an answer that is late, and waited for.
SLOW_S = 0.5
# What requests meet one after the other; a slow one is carried out, and so comes last. S3's
# own client tries twice by itself: what is to reach ours comes twice.
HARMS = {
    "get": [
        (Operation.GET, Harm.ERROR_500, 1),
        (Operation.GET, Harm.ERROR_503, 1),
        (Operation.GET, Harm.RESET, 1),
        (Operation.GET, Harm.SLOW, 1),
        (Operation.HEAD, Harm.ERROR_503, 2),
    ],
    "put": [
        (Operation.CREATE, Harm.ERROR_503, 2),
        (Operation.PUT, Harm.ERROR_500, 1),
        (Operation.PUT, Harm.ERROR_503, 1),
        (Operation.PUT, Harm.RESET, 1),
        (Operation.PUT, Harm.LOST_ANSWER, 1),
        (Operation.PUT, Harm.SLOW, 1),
    ],
    "complete": [
        (Operation.COMPLETE, Harm.ERROR_500, 2),
        (Operation.COMPLETE, Harm.ERROR_503, 2),
        (Operation.COMPLETE, Harm.RESET, 2),
        (Operation.COMPLETE, Harm.SLOW, 1),
    ],
    "complete that succeeded": [
        (Operation.COMPLETE, Harm.LOST_ANSWER, 2),
        (Operation.HEAD, Harm.ERROR_500, 2),
    ],
}


@pytest.mark.parametrize("request_kind", list(HARMS))
async def test_trouble_of_s3_that_passes_costs_nothing_but_time(
    faulty: FaultCluster,
    client: AsyncClient,
    clip: MakeClip,
    leftovers: Leftovers,
    tmp_path: Path,
    request_kind: str,
) -> None:
    video_id = await client.upload(clip(SHORT))
    place = video_id if request_kind == "get" else f"/exports/{client.user}/"
    rules = [
        faulty.s3_door.harm(operation, harm, times=times, key=place, seconds=SLOW_S)
        for operation, harm, times in HARMS[request_kind]
    ]
    before = faulty.s3_door.requests[Operation.CREATE]
    async with task_events(faulty) as events:
        export = await client.create_export(video_id, settings=SMALL)
        done = await finish(client, export.id)
    assert [rule.met for rule in rules] == [times for _, _, times in HARMS[request_kind]]
    # Neither encoded again nor sent again from the beginning.
    assert events.kinds(export.id) == ["started", "succeeded"]
    refused = sum(rule.met for rule in rules if rule.operation is Operation.CREATE)
    assert faulty.s3_door.requests[Operation.CREATE] - before == refused + 1
    await check_exact(client, done, range(SHORT.frames), tmp_path)
    await check_tidy(leftovers, outputs=1)
