"""Fixtures: the stores on one database, emptied for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest
from api_rig import Rig

from services.api.models import metadata
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
