"""What every figure is measured on: a whole cluster on this machine, and a client of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.report import say
from services.local.cluster import LocalCluster
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
EXPORT_TIMEOUT_S = 1800
CALL_TIMEOUT_S = 30
# What is measured is the work, not the limits on it.
NO_QUOTAS = {"running_per_user": "0", "queue_limit": "0", "watches_per_user": "1000"}
# A day: everything is made in one run of FFmpeg.
NEVER_IN_PARTS = {"chunk_threshold_seconds": "86400"}


@dataclass(frozen=True)
class Shape:
    """What a cluster is like; by default as `python -m services.local up` starts it.

    Attributes:
        threads: of one encode; None for as many as cores.
        api: settings of the API, by field name.
    """

    encoders: int = 1
    threads: int | None = None
    api: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A running cluster.

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
        self,
        source: pb.Source | str,
        segments: Iterable[SegmentLike] = (),
        *,
        settings: pb.ExportSettings = SETTINGS,
        keep: bool = False,
    ) -> tuple[float, pb.Export]:
        """Export; return the seconds from CreateExport until a watcher hears COMPLETED.

        Args:
            keep: whether the export stays. By default it is deleted, because the file of one
                that is there is copied for the next of its kind.
        """
        began = time.perf_counter()
        created = await self.client.create_export(source, segments, settings=settings)
        async with asyncio.timeout(EXPORT_TIMEOUT_S):
            done = await self.client.wait(created.id)
        wall = time.perf_counter() - began
        if not keep:
            await self.client.delete(created.id)
        return wall, done

    async def probed(self, path: Path) -> str:
        """Upload a source, have it probed, and return its video id."""
        video_id = await self.client.upload(path)
        await self.client.plan(video_id)
        return video_id

    async def ffmpeg_cpu(self) -> float:
        """Return the CPU seconds of all runs of FFmpeg that have ended."""
        return await self.counter("videoexport_ffmpeg_cpu_seconds_total")

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
        """Return a counter of the encoders, summed over them and over its labels."""
        total = 0.0
        for encoder in self.cluster.encoders:
            async with self.http.get(f"http://{encoder.metrics_address}/metrics") as response:
                text = await response.text()
            total += sum(
                sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == name
            )
        return total

    def cpu_seconds(self, *parts: str) -> float:
        """Return the CPU time of parts of the cluster so far, ended children included.

        Without a name it is that of all.
        """
        total = 0.0
        for process in self.processes(*(parts or self.cluster.pids)):
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

    def keep_apart(self) -> None:
        """Keep each encoder and what it starts from now on on a core of its own; Linux only."""
        for core, encoder in enumerate(self.cluster.encoders):
            for process in self.processes(encoder.name):
                process.cpu_affinity([core])

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
async def stage(folder: Path, shape: Shape) -> AsyncIterator[Stage]:
    """Start an empty cluster below `folder`; stop it and remove its data in the end."""
    data, outputs = folder / "cluster", folder / "outputs"
    for path in (data, outputs):
        shutil.rmtree(path, ignore_errors=True)
    threads = shape.threads or os.cpu_count() or 1
    settings = {**NO_QUOTAS, **shape.api}
    api = {f"VIDEOEXPORT_API_{name.upper()}": value for name, value in settings.items()}
    cluster = LocalCluster(
        data,
        encoders=shape.encoders,
        encoder_threads=threads,
        extra_env={"api": api},
        notify=say,
    )
    try:
        say("starting a cluster")
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
