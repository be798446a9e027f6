"""Encoders that are to leave: what they do is finished or handed over, and they begin nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import grpc
import psutil
import pytest

from services.local.cluster import LocalCluster
from tests.conftest import kill_all
from tests.e2e.long_export import LONG, events_of, start_long
from tests.e2e.small_exports import SMALL
from tests.media.frame_codes import Clip, read_frame_numbers
from videoexport.channel import call_metadata, open_channel
from videoexport.client import AsyncClient
from videoexport.v1 import encoder_service_pb2 as service
from videoexport.v1 import export_pb2 as pb
from videoexport.v1.encoder_service_pb2_grpc import EncoderServiceStub

MakeClip = Callable[[Clip], Path]
SHORT = Clip(frames=50)
# How long each lets its tasks run on after SIGTERM.
GRACE_S = {"encoder-1": 60.0, "encoder-2": 0.1}


@pytest.fixture(scope="module")
async def told() -> list[str]:
    """What was told of parts that ended."""
    return []


@pytest.fixture(scope="module")
async def pair(scratch: Path, told: list[str]) -> AsyncIterator[LocalCluster]:
    """A cluster with two encoders of one slot, which go away in different ways."""
    settings = {
        "api": {"VIDEOEXPORT_API_RUNNING_PER_USER": "0"},
        **{
            name: {"VIDEOEXPORT_ENCODER_TASK_DRAIN_SECONDS": str(grace)}
            for name, grace in GRACE_S.items()
        },
    }
    async with LocalCluster(
        scratch / "pair",
        encoders=len(GRACE_S),
        encoder_threads=1,
        extra_env=settings,
        fsync=False,
        notify=told.append,
    ) as running:
        yield running
        kill_all(running)


@pytest.fixture
async def both(pair: LocalCluster, told: list[str]) -> LocalCluster:
    """The cluster with both encoders at work, whichever has left before."""
    async with asyncio.timeout(60):
        await pair.infrastructure.supervisor.all_serving()
    told.clear()
    return pair


@pytest.fixture
async def client(both: LocalCluster) -> AsyncIterator[AsyncClient]:
    """A client of it, as a user whom no other test knows."""
    async with AsyncClient(both.api.address, user=f"user-{uuid4().hex[:12]}") as opened:
        yield opened


async def start_long_on(encoder: str, client: AsyncClient, clip: MakeClip) -> pb.Export:
    """Start an export that takes a while on one of two encoders, and the other one free."""
    running = await start_long(client, clip)
    if running.encode_status.encoder_id != encoder:
        elsewhere, running = running, await start_long(client, clip)
        await client.cancel(elsewhere.id)
    assert running.encode_status.encoder_id == encoder
    return running


@pytest.mark.parametrize("busy", GRACE_S, ids=["finishes", "hands over"])
async def test_sigterm_during_encode_loses_nothing(
    both: LocalCluster,
    client: AsyncClient,
    clip: MakeClip,
    told: list[str],
    tmp_path: Path,
    busy: str,
) -> None:
    running = await start_long_on(busy, client, clip)
    [other] = GRACE_S.keys() - {busy}
    encoder = psutil.Process(both.pids[busy])
    ffmpeg = [each for each in encoder.children(recursive=True) if "ffmpeg" in each.name()]
    assert ffmpeg

    async with events_of(both, running.id) as events:
        encoder.terminate()
        async with asyncio.timeout(120):
            done = await client.wait(running.id)
    await client.download(done, tmp_path / "out.mp4")
    async with asyncio.timeout(30):
        while not any(line.startswith(busy) for line in told):
            await asyncio.sleep(0.1)
    if GRACE_S[busy] > 1:
        assert events == [("succeeded", busy)]
    else:
        assert events == [("released", busy), ("started", other), ("succeeded", other)]
    assert not any(each.is_running() for each in ffmpeg)
    assert any(line.startswith(f"{busy} exited with status 0") for line in told)
    assert read_frame_numbers(tmp_path / "out.mp4") == list(range(LONG.frames))


async def test_drain_takes_no_new_work_and_another_encoder_does_it(
    both: LocalCluster, client: AsyncClient, clip: MakeClip
) -> None:
    leaving = both.encoders[0]
    async with open_channel(leaving.address) as channel:
        stub = EncoderServiceStub(channel)
        metadata = call_metadata(client.user)
        drained = await stub.Drain(service.DrainRequest(), metadata=metadata, timeout=10)
        assert drained.encoder.draining
        video_id = await client.upload(clip(SHORT))
        request = service.EncodeRequest(source=pb.Source(video_id=video_id))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Encode(request, metadata=metadata, timeout=10).read()
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        export = await client.create_export(video_id, settings=SMALL)
        async with asyncio.timeout(60):
            done = await client.wait(export.id)
        assert done.output.frame_count == SHORT.frames
        described = await stub.GetEncoder(
            service.GetEncoderRequest(), metadata=metadata, timeout=10
        )
        assert not described.encoder.running_tasks
    # It stays as it is until it ends.
    both.kill(leaving.name)
