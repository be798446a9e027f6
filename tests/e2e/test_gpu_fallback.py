"""A GPU that is wanted and not there: the CPU does it, and the export says so.

On a machine without NVENC the failure is real: FFmpeg is started with the
whole NVENC command and does not find the driver or the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import aiohttp
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from services.common import ids
from services.common.planner import plan_export
from services.common.subjects import Lane
from services.encoder.board import Run
from services.encoder.capabilities import prove_encoder
from services.encoder.ffmpeg.process import find_ffmpeg
from services.encoder.metrics import EncoderMetrics
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceGateway
from services.encoder.storage import StorageClient
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns
from services.encoder.tasks.whole import WholeEncode
from services.local.cluster import LocalCluster
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.media.frame_codes import Clip
from videoexport.channel import open_channel
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

MakeClip = Callable[[Clip], Path]
SHORT = Clip(rate=Fraction(25), frames=50)


@pytest.fixture(scope="module")
async def no_nvenc() -> str:
    """Why NVENC does not work here; these tests are about that."""
    problem = await prove_encoder(find_ffmpeg(), pb.ENCODER_FAMILY_NVENC)
    if problem is None:
        pytest.skip("this machine has a working NVENC: the fallback cannot be provoked")
    return problem


async def test_gpu_wanted_but_none_live_runs_on_the_cpu_with_a_warning(
    client: AsyncClient, clip: MakeClip, no_nvenc: str
) -> None:
    settings = pb.ExportSettings(encoder=pb.ENCODER_PREFERENCE_GPU)
    settings.MergeFrom(SMALL)
    created = await client.create_export(await client.upload(clip(SHORT)), settings=settings)
    done = await client.wait(created.id)
    assert done.output.encoder_family == pb.ENCODER_FAMILY_CPU
    assert [warning.code for warning in done.warnings] == ["GPU_FALLBACK"]
    assert "GPU" in done.output.encoder_reason


async def test_nvenc_failing_on_a_job_runs_that_job_on_the_cpu(
    cluster: LocalCluster,
    client: AsyncClient,
    clip: MakeClip,
    no_nvenc: str,
    tmp_path: Path,
    leftovers: Leftovers,
) -> None:
    source = pb.Source(video_id=await client.upload(clip(SHORT)))
    info = await client.probe(source)
    plan = plan_export(info, [], SMALL)
    settings = EncoderSettings(
        nats_url="nats://unused", storage_address=cluster.storage.address, scratch_dir=tmp_path
    )
    metrics = EncoderMetrics(CollectorRegistry())
    run = Run(ids.run_id(), 1, Lane.GPU, pb.RunningTask(frame_count=plan.frame_count))
    async with (
        open_channel(cluster.storage.address) as channel,
        aiohttp.ClientSession() as http,
        SourceGateway() as gateway,
    ):
        store = StorageClient(channel, http, 10)
        runs = FfmpegRuns(settings, find_ffmpeg(), metrics)
        encode = WholeEncode(settings.own_scratch, runs, gateway, store, metrics)
        encoded = await encode.run(
            run,
            client.user,
            await store.find_source(client.user, source),
            task_pb2.WholeTask(
                info=info,
                plan=plan,
                family=pb.ENCODER_FAMILY_NVENC,
                family_reason="A GPU encoder is live.",
                time_limit=Duration(seconds=60),
            ),
            storage.CreateUploadRequest(preview_id=ids.preview_id()),
        )
    assert encoded.output.encoder_family == pb.ENCODER_FAMILY_CPU
    assert encoded.output.encoder_name == "libx264"
    assert encoded.output.frame_count == 50
    assert encoded.output.encoder_reason.startswith("The GPU failed, so the CPU encoded:")
    assert [warning.code for warning in encoded.warnings] == ["GPU_FALLBACK"]
    assert metrics.fallbacks._value.get() == 1
    assert list(settings.own_scratch.iterdir()) == []
    assert len(leftovers.objects("previews")) == 1
