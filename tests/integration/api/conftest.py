"""Fixtures: the stores on one database, emptied for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest
from api_parts import STREAMS, Parts
from api_rig import Rig
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from services.api.models import metadata
from services.common.nats import connect, ensure_topology, first_connection
from services.local.infra import Infrastructure


@pytest.fixture(scope="session")
def api_database(infrastructure: Infrastructure, template_database: str) -> str:
    """The URL of a database for all tests here: making one takes longer than most of them."""
    url = infrastructure.postgres.url
    name = f"api_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    return f"{url.rpartition('/')[0]}/{name}"


@pytest.fixture
def empty_database(api_database: str) -> str:
    """The URL of that database, without any rows."""
    with psycopg.connect(api_database, autocommit=True) as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(f"DELETE FROM {table.name}")
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
