"""A client with a user of its own for every test, and what S3, scratch and processes hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from services.local.cluster import LocalCluster
from services.local.s3 import S3Part
from tests.conftest import kill_all
from tests.media.frame_codes import Clip, generate
from videoexport.client import AsyncClient


# Gone with the last test here, for a cluster keeps a part of a core busy.
@pytest.fixture(scope="package")
async def cluster(scratch: Path) -> AsyncIterator[LocalCluster]:
    """The whole cluster as processes, with one encoder of two slots."""
    settings = {
        "api": {
            "VIDEOEXPORT_API_RUNNING_PER_USER": "0",
            # What takes a minute by default is to be quick here.
            "VIDEOEXPORT_API_CHUNK_THRESHOLD_SECONDS": "30",
            "VIDEOEXPORT_API_CHUNK_SECONDS": "5",
            "VIDEOEXPORT_API_ACK_WAIT": "8",
        },
        "encoder": {
            "VIDEOEXPORT_ENCODER_CPU_SLOTS": "2",
            "VIDEOEXPORT_ENCODER_HEARTBEAT_INTERVAL": "2",
        },
    }
    async with LocalCluster(
        scratch / "cluster", encoders=1, encoder_threads=1, extra_env=settings, fsync=False
    ) as running:
        yield running
        kill_all(running)


@pytest.fixture
async def client(cluster: LocalCluster) -> AsyncIterator[AsyncClient]:
    """A client of the cluster, as a user whom no other test knows."""
    async with AsyncClient(cluster.api.address, user=f"user-{uuid4().hex[:12]}") as opened:
        yield opened


@pytest.fixture(scope="session")
def clip(scratch: Path) -> Callable[[Clip], Path]:
    """Return generated clips; each is made once a session."""

    def make(wanted: Clip) -> Path:
        return generate(wanted, scratch / "clips")

    return make


class Leftovers:
    """What an ended export must not leave behind."""

    def __init__(self, cluster: LocalCluster, user: str) -> None:
        self._cluster = cluster
        self._user = user

    @property
    def _s3(self) -> S3Part:
        return self._cluster.infrastructure.s3

    def objects(self, prefix: str = "exports") -> list[str]:
        """Return the keys of the user's objects."""
        listed = self._s3.client().list_objects_v2(
            Bucket="videoexport", Prefix=f"{prefix}/{self._user}/"
        )
        return [item["Key"] for item in listed.get("Contents", [])]

    def parts(self) -> list[str]:
        """Return the keys of the user's unfinished uploads."""
        listed = self._s3.client().list_multipart_uploads(Bucket="videoexport")
        keys = [item["Key"] for item in listed.get("Uploads", [])]
        return [key for key in keys if f"/{self._user}/" in key]

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object past the services, as another system would."""
        self._s3.client().put_object(Bucket=bucket, Key=key, Body=data)

    def scratch_files(self) -> list[str]:
        """Return what lies on the encoders' scratch disks."""
        return [str(path) for path in (self._cluster.directory / "scratch").rglob("*.[mw]*")]

    def ffmpeg_processes(self) -> list[int]:
        """Return the FFmpeg processes under the cluster's encoders."""
        found = []
        for name, pid in self._cluster.pids.items():
            if name.startswith("encoder"):
                children = psutil.Process(pid).children(recursive=True)
                found += [child.pid for child in children if "ffmpeg" in child.name()]
        return found


@pytest.fixture
def leftovers(cluster: LocalCluster, client: AsyncClient) -> Leftovers:
    """What the test's user has left behind."""
    return Leftovers(cluster, client.user)


@pytest.fixture
def cluster_address(cluster: LocalCluster) -> str:
    """Where ExportService listens."""
    return cluster.api.address


@pytest.fixture
async def idle(client: AsyncClient, leftovers: Leftovers) -> None:
    """Wait until no other test's export runs: what is counted below is then this test's."""
    async with asyncio.timeout(120):
        while leftovers.ffmpeg_processes() or any(
            encoder.running_tasks for encoder in await client.encoders()
        ):
            await asyncio.sleep(0.2)
