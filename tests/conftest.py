"""Real servers for the tests: one set a session, one database a test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from xdist.scheduler import LoadScopeScheduling

from services.api.migrate import migrate
from services.local.cluster import LocalCluster
from services.local.infra import Infrastructure

# What shares a cluster runs in one process; of the rest, each file in whichever is free.
SHARING = ("tests/e2e/", "tests/faults/")
MEDIA = Path(__file__).resolve().parents[2] / "shared" / "media"


class FolderScheduling(LoadScopeScheduling):
    """Which tests run in the same process of pytest, where there are several."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in SHARING if file.startswith(folder)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FolderScheduling:
    """Hand out tests so."""
    return FolderScheduling(config, log)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A short path of our own, which servers of other users can pass through."""
    folder = Path(tempfile.mkdtemp(prefix="videoexport-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def infrastructure(scratch: Path) -> AsyncIterator[Infrastructure]:
    """NATS, S3 and Postgres."""
    async with Infrastructure(scratch / "infrastructure", fsync=False) as running:
        yield running
        kill_all(running)


@pytest.fixture(scope="session")
def template_database(infrastructure: Infrastructure) -> str:
    """The name of a database with the present schema, to be copied."""
    url = infrastructure.postgres.url
    name = "template_videoexport"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    migrate(other_database(url, name))
    return name


@pytest.fixture
def database_url(infrastructure: Infrastructure, template_database: str) -> Iterator[str]:
    """A database of the test's own, with the present schema and no rows."""
    url = infrastructure.postgres.url
    name = f"test_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield other_database(url, name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def kill_all(running: Infrastructure | LocalCluster) -> None:
    """Kill all parts of what is about to be stopped: nobody waits for an end in good order."""
    for part in running.pids:
        running.kill(part)


def other_database(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return f"{url.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="session")
def real_media() -> Path:
    """The folder of real clips.

    They lie beside the checkout; where that is missing the tests that need
    them fail, rather than pass unseen.
    """
    assert MEDIA.is_dir(), f"the real clips are expected at {MEDIA}"
    return MEDIA
