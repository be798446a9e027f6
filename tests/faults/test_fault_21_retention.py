"""Faults 21 and 23: retention removes files while they are told of, on two replicas at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.cluster import FaultCluster
from faults.s3_door import Harm, Operation
from services.local.cluster import BUCKET
from tests.e2e.small_exports import SMALL
from tests.faults.truth import Truth, completed, until
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient, Refused
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
FRAMES = range(10)
# Longer than it takes to remove a file, which ends the waiting.
SLOW_S = 30.0
MANY = 8


@pytest.fixture
async def ready(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> pb.Export:
    """A completed export, told with its file."""
    created = await client.create_export(
        await client.upload(clip(Clip(frames=len(FRAMES)))), settings=SMALL
    )
    return await completed(client, created.id, FRAMES, tmp_path)


async def remove(faulty: FaultCluster, truth: Truth, export: pb.Export) -> None:
    """Do at once what retention does within seconds."""
    await truth.rows("UPDATE exports SET state = 'EXPIRED' WHERE id = %s", export.id)
    [key] = await asyncio.to_thread(truth.objects, export.user_id)
    s3 = faulty.cluster.infrastructure.s3.client()
    await asyncio.to_thread(s3.delete_object, Bucket=BUCKET, Key=key)


@pytest.mark.parametrize("asked", ["told", "downloaded"])
async def test_file_that_goes_as_it_is(
    faulty: FaultCluster,
    client: AsyncClient,
    truth: Truth,
    ready: pb.Export,
    tmp_path: Path,
    asked: str,
) -> None:
    # Before a URL is made storage looks whether the file is there.
    operation = Operation.HEAD if asked == "told" else Operation.GET
    slow = faulty.s3_door.harm(operation, Harm.SLOW, key=ready.id, seconds=SLOW_S)
    asking = asyncio.ensure_future(
        client.get(ready.id)
        if asked == "told"
        else client.download(ready.id, tmp_path / "late.mp4")
    )

    async def is_on_its_way() -> bool:
        return slow.met == 1

    await until(is_on_its_way)
    await remove(faulty, truth, ready)
    assert not asking.done()
    slow.over.set()
    if asked == "told":
        told = await asking
        assert (told.state, told.output.download_url) == (pb.EXPORT_STATE_EXPIRED, "")
    else:
        with pytest.raises(Refused, match="has no file: it is EXPIRED"):
            await asking
        assert not (tmp_path / "late.mp4").exists()
    await truth.nothing_left(client.user)


async def test_url_is_promised_for_as_long_as_the_file_is_kept(
    client: AsyncClient, truth: Truth, ready: pb.Export
) -> None:
    kept = "UPDATE exports SET expires_at = now() + interval '10 minutes' WHERE id = %s"
    await truth.rows(kept, ready.id)
    told = await client.get(ready.id)
    late = told.output.download_url_expire_time.ToDatetime() - told.expire_time.ToDatetime()
    # Whole seconds, rounded up.
    assert -60 < late.total_seconds() < 5


async def test_two_reconcilers_expire_each_file_once(
    client: AsyncClient, truth: Truth, ready: pb.Export
) -> None:
    source = ready.source.video_id
    # The copies of the first: identical exports are not encoded again.
    created = [await client.create_export(source, settings=SMALL) for _ in range(MANY)]
    ids = [ready.id, *[export.id for export in created]]
    await asyncio.gather(*(client.wait(export_id) for export_id in ids))
    assert len(await asyncio.to_thread(truth.objects, client.user)) == len(ids)
    await truth.rows("UPDATE exports SET expires_at = now() WHERE id = ANY(%s)", ids)

    async def are_gone() -> bool:
        return not await asyncio.to_thread(truth.objects, client.user)

    await until(are_gone, poll=0.2)
    await truth.nothing_left(client.user)
    told = [await truth.ends_told(export_id, "expired") for export_id in ids]
    assert told == [1] * len(ids)
    assert {(await client.get(each)).state for each in ids} == {pb.EXPORT_STATE_EXPIRED}
