"""One time limit bounds everything that FFmpeg is run for in a task."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import cast

import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from services.common import ids
from services.common.subjects import Lane
from services.encoder.board import Run
from services.encoder.commands.ffmpeg_command import FfmpegCommand, Site
from services.encoder.deadline import Deadline
from services.encoder.errors import EncoderFailed, FramesMissing, TimeLimitExceeded
from services.encoder.inspection.output_facts import OutputFacts
from services.encoder.metrics import EncoderMetrics
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceGateway, SourceHandle
from services.encoder.sources.reader import SourceObject
from services.encoder.storage import StorageClient
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns, Made, Order
from services.encoder.tasks.whole import WholeEncode
from tests.integration.encoder.conftest import MakeClip
from tests.media.frame_codes import Clip
from tests.media.object_server import ObjectServer
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

RATE = pb.Rational(numerator=25, denominator=1)


@pytest.fixture
def run() -> Run:
    return Run(ids.run_id(), 1, Lane.GPU, pb.RunningTask())


@pytest.fixture
def metrics() -> EncoderMetrics:
    return EncoderMetrics(CollectorRegistry())


async def test_reading_again_from_further_ahead_gets_no_more_time(
    clip: MakeClip, tmp_path: Path, run: Run, metrics: EncoderMetrics
) -> None:
    settings = EncoderSettings(nats_url="nats://unused", storage_address="unused")
    runs = FfmpegRuns(settings, Path(sys.executable), metrics)
    finished = clip(Clip(frames=20))
    margins = []

    def commands(site: Site) -> list[FfmpegCommand]:
        margins.append(site.least_margin)
        # The first reading leaves time, and no other ends by itself.
        seconds = 60 * len(margins) - 60
        sleep = (sys.executable, "-c", f"import time; time.sleep({seconds})")
        return [FfmpegCommand(sleep, {}, finished, 20)]

    def check(_: OutputFacts) -> None:
        raise FramesMissing("the output has 19 frames instead of 20")

    order = Order(
        commands=commands,
        check=check,
        family=pb.ENCODER_FAMILY_CPU,
        rate=RATE,
        deadline=Deadline.after(Duration(seconds=3)),
    )
    async with (
        ObjectServer.serving(b"") as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        began = time.monotonic()
        # Named is what the task had, not what was left of it.
        with pytest.raises(TimeLimitExceeded, match=r"not done after 3 s$"):
            await runs.fill(run, order, handle, tmp_path)
    assert len(margins) == 2
    assert time.monotonic() - began < 6


class FailingGpu:
    """Takes the place of FFmpeg; fails on the GPU."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    async def fill(self, _: Run, order: Order, __: SourceHandle, folder: Path) -> Made:
        self.orders.append(order)
        if order.family == pb.ENCODER_FAMILY_NVENC:
            raise EncoderFailed("Cannot load libcuda.so.1")
        raise TimeLimitExceeded(f"nothing is made in {folder.name}")


class OneSource:
    """Takes the place of the storage."""

    def __init__(self, source: SourceObject) -> None:
        self._source = source

    def source_object(self, _: str, __: task_pb2.TaskSource) -> SourceObject:
        return self._source


async def test_cpu_that_takes_over_from_the_gpu_gets_what_is_left_of_the_time(
    tmp_path: Path, run: Run, metrics: EncoderMetrics
) -> None:
    gpu = FailingGpu()
    work = task_pb2.WholeTask(
        plan=pb.Plan(frame_rate=pb.Rational(numerator=25, denominator=1)),
        family=pb.ENCODER_FAMILY_NVENC,
        time_limit=Duration(seconds=60),
    )
    async with ObjectServer.serving(b"") as server, SourceGateway() as gateway:
        encode = WholeEncode(
            tmp_path,
            cast("FfmpegRuns", gpu),
            gateway,
            cast("StorageClient", OneSource(server.source())),
            metrics,
        )
        with pytest.raises(TimeLimitExceeded):
            await encode.run(
                *(run, "ann", task_pb2.TaskSource(), work, storage.CreateUploadRequest())
            )
    first, second = gpu.orders
    assert (first.family, second.family) == (pb.ENCODER_FAMILY_NVENC, pb.ENCODER_FAMILY_CPU)
    assert first.deadline == second.deadline
    assert 59 < second.deadline.left <= 60
