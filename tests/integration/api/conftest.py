"""Fixtures: the stores on one database, emptied for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from uuid import uuid4

import psycopg
import pytest
from api_long import LONG_INFO
from api_parts import STREAMS, Parts
from api_rig import SOURCE, Rig
from api_service import SERVING, Api, FakeEncoder, Surroundings, api_running
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from services.api.models import metadata
from services.api.store.records import source_key
from services.common.nats import connect, ensure_topology, first_connection
from services.local.infra import Infrastructure
from services.local.services import ServicePart


@pytest.fixture(scope="session")
def api_database(infrastructure: Infrastructure, template_database: str) -> str:
    """The URL of a database for all tests here: making one takes longer than most of them."""
    url = infrastructure.postgres.url
    name = f"api_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    return f"{url.rpartition('/')[0]}/{name}"


@pytest.fixture
def bare_database(infrastructure: Infrastructure) -> Iterator[str]:
    """The URL of a database without any schema."""
    url = infrastructure.postgres.url
    name = f"bare_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{url.rpartition('/')[0]}/{name}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_database(api_database: str) -> str:
    """The URL of that database, without any rows."""
    # Without blocking the loop, on which a service may be about to release its rows.
    async with await psycopg.AsyncConnection.connect(api_database, autocommit=True) as connection:
        for table in reversed(metadata.sorted_tables):
            await connection.execute(f"DELETE FROM {table.name}")
    return api_database


@pytest.fixture
async def rig(empty_database: str) -> AsyncIterator[Rig]:
    """The stores of one replica."""
    rig = Rig(empty_database)
    yield rig
    await rig.close()


@pytest.fixture
async def replica(empty_database: str) -> AsyncIterator[Rig]:
    """The stores of a second replica on the same database."""
    rig = Rig(empty_database)
    yield rig
    await rig.close()


async def _remove_streams(js: JetStreamContext) -> None:
    for stream in STREAMS:
        try:
            await js.delete_stream(stream)
        except NotFoundError:
            continue


@pytest.fixture
async def nats(infrastructure: Infrastructure) -> AsyncIterator[Client]:
    """A connection to NATS whose streams are there and empty."""
    async with connect(infrastructure.nats.url, name="tests", on_closed=lambda: None) as client:
        async with asyncio.timeout(10):
            await first_connection(client)
        js = client.jetstream()
        await _remove_streams(js)
        await ensure_topology(js, replicas=1, ack_wait=60)
        yield client
        await _remove_streams(js)


@pytest.fixture
def parts(rig: Rig, nats: Client) -> Parts:
    """The loops of one replica; none of them runs yet."""
    return Parts(rig, nats)


@pytest.fixture(scope="session")
async def storage_service(infrastructure: Infrastructure) -> AsyncIterator[ServicePart]:
    """A real StorageService as a process, with one bucket of sources."""
    await infrastructure.s3.ensure_bucket("rushes")
    part = ServicePart(
        "storage-for-api",
        "storage",
        port=infrastructure.ports.port("storage-for-api"),
        metrics_port=infrastructure.ports.port("storage-for-api.metrics"),
        settings={
            "s3_endpoint": infrastructure.s3.endpoint,
            "s3_access_key": infrastructure.credentials.s3_access_key,
            "s3_secret_key": infrastructure.credentials.s3_secret_key,
            "bucket": "videoexport-api",
            "source_buckets": '["rushes"]',
        },
        extra_env={},
        logs=infrastructure.logs,
        temporary=infrastructure.directory / "tmp" / "storage-for-api",
    )
    await infrastructure.supervisor.start(part)
    yield part
    await infrastructure.supervisor.stop(part.name)


@pytest.fixture(scope="session")
def around(
    infrastructure: Infrastructure, api_database: str, storage_service: ServicePart
) -> Surroundings:
    """What API services stand on."""
    return Surroundings(infrastructure, api_database, storage_service)


@pytest.fixture(scope="module")
async def serving_api(around: Surroundings) -> AsyncIterator[Api]:
    """One service for a module, so that its start is paid for once."""
    async with api_running(around) as api:
        await api.until(SERVING)
        yield api


@pytest.fixture
async def api(serving_api: Api, rig: Rig) -> Api:
    """That service, on an empty database."""
    return serving_api


@pytest.fixture
async def encoder(around: Surroundings, rig: Rig) -> AsyncIterator[FakeEncoder]:
    """The test in an encoder's place, with nothing left to do from earlier tests."""
    async with AsyncExitStack() as stack:
        encoder = FakeEncoder(around, stack)
        await encoder.connect()
        await encoder.forget_tasks()
        yield encoder


@pytest.fixture
async def known(parts: Parts, rig: Rig) -> Parts:
    """A replica that knows an encoder, and the source."""
    parts.encoder()
    await rig.tasks.keep_probe(source_key("anna", SOURCE), LONG_INFO)
    return parts
