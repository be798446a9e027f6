"""EncoderService by its own door: probe, encode at once, watch, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path

import aiohttp
import grpc
import pytest

from services.common.errors import Reason
from services.common.status import from_rpc_error
from services.local.cluster import LocalCluster
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.media.frame_codes import Clip, read_frame_numbers
from videoexport.channel import call_metadata, open_channel
from videoexport.client import AsyncClient
from videoexport.client.naming import segment
from videoexport.v1 import encoder_service_pb2 as service
from videoexport.v1 import export_pb2 as pb
from videoexport.v1.encoder_service_pb2_grpc import EncoderServiceStub

MakeClip = Callable[[Clip], Path]
SHORT = Clip(rate=Fraction(25), frames=100)
LONG = Clip(rate=Fraction(25), frames=1500, width=320, height=180, gop=50)
SLOW = pb.ExportSettings(resolution=pb.RESOLUTION_1080P, quality=pb.QUALITY_HIGH)


@pytest.fixture
async def stub(cluster: LocalCluster) -> AsyncIterator[EncoderServiceStub]:
    """The cluster's encoder."""
    async with open_channel(cluster.encoders[0].address) as channel:
        yield EncoderServiceStub(channel)


async def test_probe_says_what_a_source_is(
    client: AsyncClient, clip: MakeClip, stub: EncoderServiceStub
) -> None:
    source = pb.Source(video_id=await client.upload(clip(SHORT)))
    response = await stub.Probe(
        service.ProbeRequest(source=source), metadata=call_metadata(client.user), timeout=20
    )
    video = response.info.video
    assert (video.codec, video.width, video.height, video.frame_count) == ("h264", 128, 72, 100)
    assert (video.frame_rate.numerator, video.frame_rate.denominator) == (25, 1)
    assert response.info.audio.codec == "aac"


@pytest.mark.usefixtures("idle")
async def test_encode_streams_progress_and_ends_with_a_download(
    client: AsyncClient, clip: MakeClip, stub: EncoderServiceStub, tmp_path: Path
) -> None:
    request = service.EncodeRequest(
        source=pb.Source(video_id=await client.upload(clip(SHORT))),
        segments=[segment(1, 2), segment(0.2, 0.4)],
        settings=SMALL,
    )
    call = stub.Encode(request, metadata=call_metadata(client.user), timeout=60)
    responses = [response async for response in call]
    output = responses[-1].result.output
    assert all(response.HasField("progress") for response in responses[:-1])
    async with aiohttp.ClientSession() as http, http.get(output.download_url) as answer:
        (tmp_path / "out.mp4").write_bytes(await answer.read())
    assert read_frame_numbers(tmp_path / "out.mp4") == [*range(25, 50), *range(5, 10)]
    assert output.frame_count == 30


@pytest.mark.usefixtures("idle")
async def test_encode_refuses_when_all_slots_are_busy_and_ends_with_its_call(
    client: AsyncClient, clip: MakeClip, stub: EncoderServiceStub, leftovers: Leftovers
) -> None:
    source = pb.Source(video_id=await client.upload(clip(LONG)))
    request = service.EncodeRequest(source=source, settings=SLOW)
    metadata = call_metadata(client.user)
    calls = [stub.Encode(request, metadata=metadata, timeout=120) for _ in range(2)]
    for call in calls:
        await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Encode(request, metadata=metadata, timeout=20).read()
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert from_rpc_error(refused.value, unavailable=Reason.INTERNAL).reason is Reason.SLOTS_BUSY
    watching = stub.WatchTasks(service.WatchTasksRequest(), metadata=metadata, timeout=20)
    seen = await watching.read()
    assert len(seen.tasks) == 2
    watching.cancel()
    for call in calls:
        call.cancel()
    async with asyncio.timeout(10):
        while leftovers.ffmpeg_processes():
            await asyncio.sleep(0.05)
    assert leftovers.objects("previews") == []


@pytest.mark.usefixtures("idle")
async def test_encode_lists_every_violation(
    client: AsyncClient, clip: MakeClip, stub: EncoderServiceStub
) -> None:
    request = service.EncodeRequest(
        source=pb.Source(video_id=await client.upload(clip(SHORT))),
        segments=[segment(2, 1), segment(0, 1)],
        settings=pb.ExportSettings(quality=99, measure_quality=True),  # type: ignore[arg-type]
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Encode(request, metadata=call_metadata(client.user), timeout=20).read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "segments[0].end_time" in str(refused.value.details())
    assert "(and 2 more)" in str(refused.value.details())


@pytest.mark.usefixtures("idle")
async def test_encode_makes_no_stills(
    client: AsyncClient, clip: MakeClip, stub: EncoderServiceStub
) -> None:
    settings = pb.ExportSettings(poster=pb.PosterSettings())
    request = service.EncodeRequest(
        source=pb.Source(video_id=await client.upload(clip(SHORT))), settings=settings
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Encode(request, metadata=call_metadata(client.user), timeout=20).read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "settings.poster: is made for exports alone" in str(refused.value.details())
