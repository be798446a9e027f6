"""One cluster for all faults, healed and whole again before each test."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from faults.cluster import FaultCluster
from tests.conftest import kill_all
from tests.e2e.conftest import Leftovers
from tests.faults.truth import Truth
from tests.media.frame_codes import Clip, generate
from videoexport.client import AsyncClient

WHOLE_AGAIN_S = 60
# nats.py leaves the socket of a connection that ended half-way, as those to servers that are
# killed do, to the garbage collector.
LEFT_OPEN = "ignore:unclosed:ResourceWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what NATS's client leaves open be no failure of the tests here."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings(LEFT_OPEN))


@pytest.fixture(scope="package", autouse=True)
def _nothing_left_to_others() -> Iterator[None]:
    """Collect that garbage with the last test here, and not in a test of something else."""
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
        gc.collect()


# Gone with the last test here, for a cluster keeps a part of a core busy.
@pytest.fixture(scope="package")
async def whole_cluster(scratch: Path) -> AsyncIterator[FaultCluster]:
    """The cluster that faults are injected into."""
    # Nearly every test waits for the reconciler at its end.
    settings = {"api": {"VIDEOEXPORT_API_RECONCILE_INTERVAL": "1"}}
    async with FaultCluster(scratch / "faults", settings=settings, fsync=False) as running:
        yield running
        kill_all(running.cluster)


@pytest.fixture
async def faulty(whole_cluster: FaultCluster) -> AsyncIterator[FaultCluster]:
    """The cluster with nothing wrong; what a test breaks is mended after it."""
    await whole_cluster.whole_again(WHOLE_AGAIN_S)
    yield whole_cluster
    whole_cluster.heal()


@pytest.fixture
async def truth(faulty: FaultCluster) -> AsyncIterator[Truth]:
    """What the servers hold, whatever is between them and the services."""
    async with Truth(faulty) as opened:
        yield opened


@pytest.fixture
async def client(faulty: FaultCluster) -> AsyncIterator[AsyncClient]:
    """A client of both replicas of the API, as a user whom no other test knows."""
    async with AsyncClient(faulty.cluster.address, user=f"user-{uuid4().hex[:12]}") as opened:
        yield opened


@pytest.fixture
def leftovers(faulty: FaultCluster, client: AsyncClient) -> Leftovers:
    """What the test's user has left behind."""
    return Leftovers(faulty.cluster, client.user)


@pytest.fixture(scope="session")
def clip(scratch: Path) -> Callable[[Clip], Path]:
    """Return generated clips; each is made once a session."""

    def make(wanted: Clip) -> Path:
        return generate(wanted, scratch / "clips")

    return make
