"""Fixtures: one S3 server and one storage service for all tests that leave them running."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from storage_rig import (
    OTHER_BUCKET,
    SERVING,
    SOURCE_BUCKET,
    Server,
    Service,
    server_running,
    service_running,
)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3() -> AsyncIterator[Server]:
    """One S3 server for all tests here that leave it running, with two buckets of others."""
    async with server_running() as server:
        server.client.create_bucket(Bucket=SOURCE_BUCKET)
        server.client.create_bucket(Bucket=OTHER_BUCKET)
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def storage(s3: Server) -> AsyncIterator[Service]:
    """One serving storage service."""
    async with service_running(s3.settings("storage")) as service:
        await service.until(SERVING)
        yield service


@pytest_asyncio.fixture(loop_scope="session")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """What a client sends parts with."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def file(tmp_path: Path) -> Callable[[int], Path]:
    """Return a function that makes a file of so many random bytes."""

    def make(size: int) -> Path:
        path = tmp_path / f"{size}.mov"
        path.write_bytes(random.Random(size).randbytes(size))
        return path

    return make
