"""The client library against the whole cluster, also over a connection that breaks."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from faults.relay import Relay
from services.local.cluster import LocalCluster
from tests.e2e.conftest import Leftovers
from tests.media.frame_codes import Clip, read_frame_numbers
from videoexport.client import AsyncClient, Client, ExportFailed, Refused
from videoexport.v1 import export_pb2 as pb
from videoexport.v1.export_service_pb2 import ListExportsRequest

MakeClip = Callable[[Clip], Path]

SHORT = Clip(rate=Fraction(25), frames=100)
LONG = Clip(rate=Fraction(25), frames=1500, width=320, height=180, gop=50)
SLOW = pb.ExportSettings(resolution=pb.RESOLUTION_1080P, quality=pb.QUALITY_HIGH)
# A program that uploads slowly: each of the blocks of 256 KiB waits to be told.
UPLOADING = """
import sys, time
from videoexport.client import Client

def tell(sent, total):
    print(sent, flush=True)
    time.sleep(0.05)

with Client(sys.argv[1], user=sys.argv[2]) as client:
    client.upload(sys.argv[3], on_progress=tell)
"""


@pytest.fixture
async def relay(cluster: LocalCluster) -> AsyncIterator[Relay]:
    """A relay to ExportService."""
    made = Relay(int(cluster.api.address.rpartition(":")[2]))
    await made.serve()
    yield made
    await made.close()


async def test_watch_goes_on_after_the_connection_broke(
    client: AsyncClient, clip: MakeClip, relay: Relay
) -> None:
    created = await client.create_export(await client.upload(clip(LONG)), [(0, 8)])
    seen: list[pb.Export] = []
    async with asyncio.timeout(120), AsyncClient(relay.address, user=client.user) as cut_client:
        async for export in cut_client.watch(created.id):
            seen.append(export)
            if relay.connections < 4:
                relay.cut()
    progress = [export.progress for export in seen]
    assert relay.connections == 4
    assert progress == sorted(progress)
    assert seen[-1].state == pb.EXPORT_STATE_COMPLETED


async def test_calls_go_on_after_the_connection_broke(client: AsyncClient, relay: Relay) -> None:
    async with AsyncClient(relay.address, user=client.user) as cut_client:
        for attempt in range(20):
            asyncio.get_running_loop().call_later(attempt / 4000, relay.cut)
            await cut_client.encoders()
    assert relay.connections > 10


async def test_download_of_an_unfinished_export_is_refused(
    client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    created = await client.create_export(await client.upload(clip(LONG)), settings=SLOW)
    with pytest.raises(Refused, match="has no file") as caught:
        await client.download(created, tmp_path / "early.mp4")
    assert caught.value.reason == "NOT_COMPLETED"
    assert not (tmp_path / "early.mp4").exists()
    await client.cancel(created.id)
    with pytest.raises(ExportFailed, match="was cancelled"):
        await client.wait(created.id)


async def test_create_is_one_export_although_sent_twice(
    client: AsyncClient, clip: MakeClip
) -> None:
    video_id = await client.upload(clip(SHORT))
    request_id = uuid4().hex
    both = [
        await client.create_export(video_id, [(0, "0.2")], request_id=request_id) for _ in range(2)
    ]
    other = await client.create_export(video_id, [(0, "0.2")])
    assert both[0].id == both[1].id != other.id


async def test_every_violation_of_a_thousand_segments_arrives(
    client: AsyncClient, clip: MakeClip
) -> None:
    video_id = await client.upload(clip(SHORT))
    with pytest.raises(Refused) as caught:
        await client.create_export(video_id, [(2, 1)] * 1000)
    fields = {violation.field for violation in caught.value.violations}
    assert len(fields) == 1000
    assert all(field.startswith("segments[") for field in fields)


async def test_list_walks_every_page(client: AsyncClient, clip: MakeClip) -> None:
    video_id = await client.upload(clip(SHORT))
    created = [(await client.create_export(video_id, [(0, "0.2")])).id for _ in range(5)]
    first = await client.list_page(ListExportsRequest(page_size=2))
    assert (len(first.exports), first.total_size) == (2, 5)
    listed = [export.id async for export in client.list(video_id=video_id)]
    assert listed == created[::-1]
    in_between = (await client.get(created[2])).create_time.ToDatetime(UTC)
    newer = [export.id async for export in client.list(created_after=in_between)]
    older = [export.id async for export in client.list(created_before=in_between)]
    assert newer == created[4:1:-1]
    assert older == created[1::-1]


async def test_blocking_client_does_all_that_the_other_does(
    client: AsyncClient, clip: MakeClip, cluster_address: str, tmp_path: Path
) -> None:
    def use() -> None:
        sent: list[int] = []
        with Client(cluster_address, user=client.user) as blocking:
            video_id = blocking.upload(clip(SHORT), on_progress=lambda done, _: sent.append(done))
            assert sent[-1] == clip(SHORT).stat().st_size
            assert blocking.probe(video_id).video.frame_count == 100
            plan = blocking.plan(video_id, [("1", 1.5)])
            assert plan is not None
            assert plan.frame_count in (12, 13)
            export = blocking.create_export(video_id, [(1, 2)])
            assert [state.id for state in blocking.watch(export.id)][-1] == export.id
            ended = blocking.wait(export.id, timeout=60)
            file = blocking.download(ended, tmp_path / "cut.mp4")
            assert sha256(file.read_bytes()).hexdigest() == ended.output.sha256
            assert read_frame_numbers(file) == list(range(25, 50))
            assert [each.id for each in blocking.list()] == [export.id]
            assert blocking.list_page(ListExportsRequest()).total_size == 1
            assert blocking.encoders()[0].address
            assert blocking.service_info().storage_address
            long = blocking.create_export(blocking.upload(clip(LONG)), settings=SLOW)
            # Leaving a watch early ends its stream.
            for _ in blocking.watch(long.id):
                break
            with pytest.raises(TimeoutError):
                blocking.wait(long.id, timeout=0.1)
            assert blocking.cancel(long.id).state == pb.EXPORT_STATE_CANCELLED
            with pytest.raises(Refused):
                blocking.retry(long.id)
            blocking.delete(long.id)
            with pytest.raises(Refused):
                blocking.get(long.id)

    await asyncio.to_thread(use)


async def test_interrupt_of_the_blocking_client_leaves_no_upload(
    client: AsyncClient, cluster_address: str, leftovers: Leftovers, tmp_path: Path
) -> None:
    file = tmp_path / "talk.mp4"
    with file.open("wb") as sparse:
        sparse.truncate(64 << 20)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", UPLOADING, cluster_address, client.user, str(file)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline()
        assert leftovers.parts() != []
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == -signal.SIGINT
    assert err.endswith(b"KeyboardInterrupt\n")
    assert b"was destroyed" not in err
    assert leftovers.parts() == []
    assert leftovers.objects("videos") == []
