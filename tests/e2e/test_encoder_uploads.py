"""The end of an encode: its file waits for storage that is away; cancelled, it leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from services.common import ids
from services.common.errors import DomainError, Reason
from services.common.planner import plan_export
from services.common.subjects import Lane
from services.encoder.board import CANCELLED, Run
from services.encoder.ffmpeg.process import find_ffmpeg
from services.encoder.metrics import EncoderMetrics
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceGateway
from services.encoder.storage import StorageClient
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns
from services.encoder.tasks.whole import Encoded, WholeEncode
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


class Gate:
    """Holds every part that is sent to S3 until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._open = asyncio.Event()

    def open(self) -> None:
        """Let what waits and what comes pass."""
        self._open.set()

    async def on_request(
        self, _session: object, _context: object, request: aiohttp.TraceRequestStartParams
    ) -> None:
        """Hold a request of the session that sends parts."""
        if request.method == "PUT":
            self.reached.set()
            await self._open.wait()


@pytest.fixture
def gate() -> Gate:
    """A gate, shut."""
    return Gate()


@pytest.fixture
async def store(cluster: LocalCluster, gate: Gate) -> AsyncIterator[StorageClient]:
    """What the encoder stores files with; its parts stop at the gate."""
    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(gate.on_request)
    async with (
        open_channel(cluster.storage.address) as channel,
        aiohttp.ClientSession(trace_configs=[trace]) as http,
    ):
        yield StorageClient(channel, http, 10)


@asynccontextmanager
async def encoding(
    client: AsyncClient, store: StorageClient, source: Path, folder: Path
) -> AsyncIterator[tuple[Run, asyncio.Task[Encoded]]]:
    """A run of an export that encodes a whole source."""
    video = pb.Source(video_id=await client.upload(source))
    info = await client.probe(video)
    plan = plan_export(info, [], SMALL)
    settings = EncoderSettings(nats_url="nats://unused", storage_address="-", scratch_dir=folder)
    metrics = EncoderMetrics(CollectorRegistry())
    run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask(frame_count=plan.frame_count))
    output = storage.ExportOutput(export_id=ids.export_id(), run_id=run.run_id)
    work = task_pb2.WholeTask(
        info=info, plan=plan, family=pb.ENCODER_FAMILY_CPU, time_limit=Duration(seconds=60)
    )
    async with SourceGateway() as gateway:
        runs = FfmpegRuns(settings, find_ffmpeg(), metrics)
        encode = WholeEncode(folder, runs, gateway, store, metrics)
        task: asyncio.Task[Any] = asyncio.create_task(
            encode.run(
                *(run, client.user, await store.find_source(client.user, video), work),
                storage.CreateUploadRequest(export_output=output),
            )
        )
        run.work = task
        try:
            yield run, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def uploading(run: Run) -> None:
    """Wait until the file is made and its upload begins."""
    async with asyncio.timeout(60):
        while run.live.phase != pb.EXPORT_PHASE_UPLOADING:
            await asyncio.sleep(0.01)


@pytest.mark.long
@pytest.mark.parametrize("part", ["storage", "s3"])
async def test_finished_file_waits_for_storage_that_restarts(
    cluster: LocalCluster,
    client: AsyncClient,
    store: StorageClient,
    gate: Gate,
    clip: MakeClip,
    part: str,
) -> None:
    path = clip(SHORT)
    upload = storage.CreateUploadRequest(preview_id=ids.preview_id())
    gate.open()
    await cluster.stop(part)
    try:
        storing = asyncio.create_task(store.store(client.user, upload, path))
        # Longer than a part of an upload was tried again before.
        await asyncio.wait({storing}, timeout=10)
        assert not storing.done()
    finally:
        await cluster.start(part)
    async with asyncio.timeout(40):
        stored = await storing
    assert stored.size_bytes == path.stat().st_size


async def test_storage_that_stays_away_ends_the_upload_as_worth_trying_again(
    cluster: LocalCluster,
    client: AsyncClient,
    store: StorageClient,
    clip: MakeClip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.encoder.storage.UPLOAD_GIVE_UP_AFTER", 1.0)
    path = clip(SHORT)
    upload = storage.CreateUploadRequest(preview_id=ids.preview_id())
    await cluster.stop("storage")
    try:
        async with asyncio.timeout(20):
            with pytest.raises(DomainError) as failed:
                await store.store(client.user, upload, path)
    finally:
        await cluster.start("storage")
    assert failed.value.reason is Reason.STORAGE_UNAVAILABLE
    assert failed.value.retryable


async def test_cancel_while_a_part_is_sent_leaves_nothing(
    client: AsyncClient,
    store: StorageClient,
    gate: Gate,
    clip: MakeClip,
    tmp_path: Path,
    leftovers: Leftovers,
) -> None:
    async with encoding(client, store, clip(SHORT), tmp_path / "own") as (run, work):
        await uploading(run)
        async with asyncio.timeout(20):
            await gate.reached.wait()
        assert len(leftovers.parts()) == 1
        assert list((tmp_path / "own" / run.run_id).glob("*.mp4"))
        run.stop(CANCELLED)
        with pytest.raises(asyncio.CancelledError):
            await work
    assert leftovers.objects() == leftovers.parts() == []
    assert list((tmp_path / "own").iterdir()) == []


async def test_cancel_in_the_moment_the_upload_is_complete_leaves_nothing(
    client: AsyncClient,
    store: StorageClient,
    gate: Gate,
    clip: MakeClip,
    tmp_path: Path,
    leftovers: Leftovers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complete, upload = asyncio.Event(), store.upload

    async def upload_and_wait(
        user_id: str, request: storage.CreateUploadRequest, path: Path
    ) -> storage.ObjectStat:
        stored = await upload(user_id, request, path)
        complete.set()
        await asyncio.Event().wait()
        return stored

    monkeypatch.setattr(store, "upload", upload_and_wait)
    gate.open()
    async with encoding(client, store, clip(SHORT), tmp_path / "own") as (run, work):
        async with asyncio.timeout(60):
            await complete.wait()
        assert len(leftovers.objects()) == 1
        run.stop(CANCELLED)
        with pytest.raises(asyncio.CancelledError):
            await work
    assert leftovers.objects() == leftovers.parts() == []
    assert list((tmp_path / "own").iterdir()) == []
