"""What every figure is measured on: a whole cluster on this machine, and a client of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.report import say
from services.local.cluster import LocalCluster
from services.local.supervisor import take_directory
from videoexport.channel import call_metadata, open_channel
from videoexport.client import AsyncClient
from videoexport.client.naming import SegmentLike
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1.storage_service_pb2_grpc import StorageServiceStub

USER = "bench"
SETTINGS = pb.ExportSettings(
    resolution=pb.RESOLUTION_720P, quality=pb.QUALITY_MEDIUM, encoder=pb.ENCODER_PREFERENCE_CPU
)
EXPORT_TIMEOUT_S = 600
CALL_TIMEOUT_S = 30
# What is measured is the work, not the limits on it.
NO_QUOTAS = {"VIDEOEXPORT_API_RUNNING_PER_USER": "0", "VIDEOEXPORT_API_QUEUE_LIMIT": "0"}


@dataclass(frozen=True)
class Stage:
    """A running cluster of one encoder, as `python -m services.local up` runs it.

    Attributes:
        folder: for sources, which are kept.
        outputs: for what alternatives make; removed in the end.
        threads: of one encode, on either side.
    """

    cluster: LocalCluster
    client: AsyncClient
    http: aiohttp.ClientSession
    folder: Path
    outputs: Path
    threads: int

    async def export(
        self, source: pb.Source | str, segments: Iterable[SegmentLike] = ()
    ) -> tuple[float, pb.Export]:
        """Export; return the seconds from CreateExport until a watcher hears COMPLETED."""
        began = time.perf_counter()
        created = await self.client.create_export(source, segments, settings=SETTINGS)
        async with asyncio.timeout(EXPORT_TIMEOUT_S):
            done = await self.client.wait(created.id)
        return time.perf_counter() - began, done

    async def source_url(self, video_id: str) -> str:
        """Return a presigned URL of an uploaded source."""
        async with open_channel(self.cluster.storage.address) as channel:
            answer: storage.SignDownloadResponse = await StorageServiceStub(channel).SignDownload(
                storage.SignDownloadRequest(
                    object=storage.ObjectRef(source=pb.Source(video_id=video_id))
                ),
                metadata=call_metadata(USER),
                timeout=CALL_TIMEOUT_S,
            )
        return answer.url

    async def counter(self, name: str) -> float:
        """Return a counter of the encoder, summed over its labels."""
        url = f"http://{self.cluster.encoders[0].metrics_address}/metrics"
        async with self.http.get(url) as response:
            text = await response.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        )

    def cpu_seconds(self) -> float:
        """Return the CPU time of the whole cluster so far, ended children included."""
        total = 0.0
        for process in self.processes(*self.cluster.pids):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def processes(self, *parts: str) -> list[psutil.Process]:
        """Return the processes of parts of the cluster with all their descendants."""
        found = []
        for part in parts:
            leader = psutil.Process(self.cluster.pids[part])
            found += [leader, *leader.children(recursive=True)]
        return found

    @contextmanager
    def encoder_paused(self) -> Iterator[None]:
        """Stop the encoder's processes where they are, so that they neither speak nor compute."""
        paused = self.processes("encoder-1")
        for process in paused:
            process.suspend()
        try:
            yield
        finally:
            for process in paused:
                with suppress(psutil.NoSuchProcess):
                    process.resume()


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """Start an empty cluster below `folder`; stop it and remove its data in the end.

    Raises:
        DirectoryInUse: another run has the folder.
    """
    # Until the end, and of the folder: the cluster's own lock is removed with its data.
    with take_directory(folder):
        async with _stage(folder) as ready:
            yield ready


@asynccontextmanager
async def _stage(folder: Path) -> AsyncIterator[Stage]:
    data, outputs = folder / "cluster", folder / "outputs"
    for path in (data, outputs):
        shutil.rmtree(path, ignore_errors=True)
    threads = os.cpu_count() or 1
    cluster = LocalCluster(data, encoder_threads=threads, extra_env={"api": NO_QUOTAS}, notify=say)
    try:
        say("starting the cluster")
        async with (
            cluster,
            AsyncClient(cluster.api.address, user=USER) as client,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)) as http,
        ):
            await asyncio.to_thread(outputs.mkdir)
            yield Stage(cluster, client, http, folder, outputs, threads)
    finally:
        for path in (data, outputs):
            shutil.rmtree(path, ignore_errors=True)
