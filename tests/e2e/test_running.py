"""What happens while an export runs: progress, watchers, cancel, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path

import psutil
import pytest
from nats.aio.msg import Msg

from services.common.nats import connect, first_connection
from services.common.subjects import ENCODERS, HELLO, events_subject
from services.local.cluster import LocalCluster
from tests.e2e.conftest import Leftovers
from tests.media.frame_codes import Clip, read_frame_numbers
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

MakeClip = Callable[[Clip], Path]
Event = tuple[str, str]

# Some seconds of work for one thread.
LONG = Clip(rate=Fraction(25), frames=300, width=320, height=180, gop=50)
SLOW = pb.ExportSettings(resolution=pb.RESOLUTION_1080P, quality=pb.QUALITY_HIGH)


async def start_long(client: AsyncClient, clip: MakeClip) -> pb.Export:
    """Start an export that takes a while, and return it once frames are coming out."""
    video_id = await client.upload(clip(LONG))
    created = await client.create_export(video_id, settings=SLOW)
    async with asyncio.timeout(60):
        async for export in client.watch(created.id):
            if export.encode_status.frames_done > 0:
                return export
    raise AssertionError("the export ended before it was seen running")


async def test_progress_never_goes_back_and_two_watchers_see_the_same_end(
    client: AsyncClient, clip: MakeClip
) -> None:
    running = await start_long(client, clip)

    async def follow() -> list[pb.Export]:
        return [export async for export in client.watch(running.id)]

    async with asyncio.timeout(120):
        first, second = await asyncio.gather(follow(), follow())
    for seen in (first, second):
        progress = [export.progress for export in seen]
        assert progress == sorted(progress)
        assert len(set(progress)) > 3
        assert seen[-1].state == pb.EXPORT_STATE_COMPLETED
    assert any(export.encode_status.frames_per_second > 0 for export in first)
    assert any(export.HasField("eta") for export in first)
    assert first[-1].output.sha256 == second[-1].output.sha256


@asynccontextmanager
async def events_of(cluster: LocalCluster, export_id: str) -> AsyncIterator[list[Event]]:
    """Collect what encoders report of an export from now on: what, and who."""
    seen: list[Event] = []

    async def note(message: Msg) -> None:
        event = task_pb2.TaskEvent.FromString(message.data)
        if event.export_id == export_id:
            seen.append((str(event.WhichOneof("kind")), event.encoder_id))

    url = cluster.infrastructure.nats.url
    async with connect(url, name="test", on_closed=lambda: None) as nats:
        await first_connection(nats)
        await nats.subscribe(events_subject("*"), cb=note)
        await nats.flush()
        yield seen


async def all_quiet(client: AsyncClient, leftovers: Leftovers) -> None:
    """Wait until FFmpeg has ended and no encoder says that it runs anything."""
    async with asyncio.timeout(10):
        while leftovers.ffmpeg_processes() or any(
            encoder.running_tasks for encoder in await client.encoders()
        ):
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("idle")
async def test_cancel_during_encode_leaves_nothing(
    cluster: LocalCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers
) -> None:
    running = await start_long(client, clip)
    assert leftovers.ffmpeg_processes()
    assert leftovers.scratch_files()
    async with events_of(cluster, running.id) as events:
        cancelled = await client.cancel(running.id)
        assert cancelled.state == pb.EXPORT_STATE_CANCELLED
        await all_quiet(client, leftovers)
    # It was stopped: a run that had ended by itself would have said how.
    assert events == []
    assert leftovers.objects() == leftovers.parts() == leftovers.scratch_files() == []
    # Cancelling again is not an error.
    assert (await client.cancel(running.id)).state == pb.EXPORT_STATE_CANCELLED


@pytest.mark.usefixtures("idle")
async def test_delete_while_running_stops_the_work(
    cluster: LocalCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers
) -> None:
    running = await start_long(client, clip)
    assert leftovers.scratch_files()
    async with events_of(cluster, running.id) as events:
        await client.delete(running.id)
        await all_quiet(client, leftovers)
    assert events == []
    assert leftovers.objects() == leftovers.parts() == leftovers.scratch_files() == []


@pytest.mark.parametrize("grace", ["60", "0.1"], ids=["finishes", "hands over"])
async def test_sigterm_during_encode_loses_nothing(
    scratch: Path, clip: MakeClip, tmp_path: Path, grace: str
) -> None:
    settings = {
        "api": {"VIDEOEXPORT_API_RUNNING_PER_USER": "0"},
        "encoder": {"VIDEOEXPORT_ENCODER_TASK_DRAIN_SECONDS": grace},
    }
    folder = scratch / f"drain-{tmp_path.name}"
    told: list[str] = []
    async with (
        LocalCluster(
            folder,
            encoders=2,
            encoder_threads=1,
            extra_env=settings,
            fsync=False,
            notify=told.append,
        ) as cluster,
        AsyncClient(cluster.api.address, user="drain") as client,
    ):
        running = await start_long(client, clip)
        busy = running.encode_status.encoder_id
        (other,) = {"encoder-1", "encoder-2"} - {busy}
        encoder = psutil.Process(cluster.pids[busy])
        ffmpeg = [each for each in encoder.children(recursive=True) if "ffmpeg" in each.name()]
        assert ffmpeg

        async with events_of(cluster, running.id) as events:
            encoder.terminate()
            async with asyncio.timeout(120):
                done = await client.wait(running.id)
        await client.download(done, tmp_path / "out.mp4")
        async with asyncio.timeout(30):
            while not any(line.startswith(busy) for line in told):
                await asyncio.sleep(0.1)
    if grace == "60":
        assert events == [("succeeded", busy)]
    else:
        assert events == [("released", busy), ("started", other), ("succeeded", other)]
    assert not any(each.is_running() for each in ffmpeg)
    assert any(line.startswith(f"{busy} exited with status 0") for line in told)
    assert read_frame_numbers(tmp_path / "out.mp4") == list(range(LONG.frames))


async def test_encoder_says_who_it_is_as_soon_as_an_api_asks(cluster: LocalCluster) -> None:
    heard = asyncio.Event()

    async def hear(_: Msg) -> None:
        heard.set()

    url = cluster.infrastructure.nats.url
    async with connect(url, name="test", on_closed=lambda: None) as nats:
        await first_connection(nats)
        await nats.subscribe(f"{ENCODERS}.*", cb=hear)
        # It speaks by itself every two seconds: four times in half of one is no chance.
        for _ in range(4):
            heard.clear()
            await nats.publish(HELLO, b"")
            async with asyncio.timeout(0.5):
                await heard.wait()
