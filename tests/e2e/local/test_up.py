"""`python -m services.local up` as a person runs it: starts, describes, heals, stops."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import stat
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.local.__main__ import API_PORT
from services.local.cluster import LocalCluster
from services.local.files import read_json
from services.local.ports import is_free
from services.local.process import PartFailed
from videoexport.client import DEFAULT_ADDRESS

START_TIMEOUT_S = 90
PARTS = ["nats", "s3", "postgres", "storage", "api", "encoder-1", "encoder-2"]


@pytest.fixture
def root() -> Iterator[Path]:
    # Not pytest's folder: see tests/integration/local.
    path = Path(tempfile.mkdtemp(prefix="videoexport-test-"))
    yield path
    shutil.rmtree(path)


async def up(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.local", "up", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def running(*words: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run the command until it says that it is up; kill it if the test has not stopped it."""
    process = await up(*words)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            line = (await process.stdout.readline()).decode()
        if not line:
            pytest.fail((await process.stderr.read()).decode())
        yield process, line
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def family(pids: dict[str, int]) -> list[psutil.Process]:
    roots = [psutil.Process(pid) for pid in pids.values()]
    return [*roots, *(child for each in roots for child in each.children(recursive=True))]


def alive(processes: list[psutil.Process], within: float = 0) -> list[psutil.Process]:
    _, left = psutil.wait_procs(processes, timeout=within)
    return [each for each in left if each.status() != psutil.STATUS_ZOMBIE]


async def health(address: str) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return (await check(health_pb2.HealthCheckRequest(), timeout=5)).status


async def serves_again(cluster: LocalCluster, former: int) -> bool:
    """Whether the storage service serves in another process than the former one."""
    if cluster.pids.get("storage", former) == former:
        return False
    try:
        return await health(cluster.storage.address) == health_pb2.HealthCheckResponse.SERVING
    except grpc.aio.AioRpcError:
        return False


def page(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        return answer.read().decode()


async def test_up_describes_a_healthy_cluster_and_stops_all_of_it(root):
    description = root / "cluster.json"
    has_default = is_free(API_PORT)
    async with running("--data", str(root), "--encoders", "2", "--encoder-threads", "1") as (
        process,
        ready,
    ):
        told = json.loads(description.read_text())
        assert stat.S_IMODE(description.stat().st_mode) == 0o600
        assert set(told) == {
            *("api", "storage", "encoders", "metrics"),
            *("s3", "nats", "postgres", "pids"),
        }
        assert set(told["pids"]) == set(PARTS)
        assert set(told["metrics"]) == set(PARTS[3:])
        assert told["postgres"].startswith("postgresql://videoexport@127.0.0.1:")
        assert told["api"] in ready
        assert (told["api"] == DEFAULT_ADDRESS) == has_default
        assert "2 encoders" in ready
        for address in (told["api"], told["storage"], *told["encoders"]):
            assert await health(address) == health_pb2.HealthCheckResponse.SERVING
        for address in told["metrics"].values():
            assert "# TYPE videoexport_" in await asyncio.to_thread(page, address)
        processes = family(told["pids"])
        secrets = json.loads((root / "secrets.json").read_text())
        words = [word for each in processes for word in each.cmdline()]
        assert not [word for word in words if any(secret in word for secret in secrets.values())]

        process.send_signal(signal.SIGTERM)
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        assert output == b""
        assert b"Traceback" not in errors
        assert alive(processes) == []
        assert not description.exists()


async def test_killed_service_comes_back_where_it_was(cluster):
    before = json.loads(cluster.description.read_text())
    cluster.kill("storage")
    async with asyncio.timeout(60):
        while not await serves_again(cluster, before["pids"]["storage"]):
            await asyncio.sleep(0.1)
    after = json.loads(cluster.description.read_text())
    assert after["pids"].pop("storage") != before["pids"].pop("storage")
    assert after == before


async def test_replica_of_the_api_serves_and_stops_with_the_cluster(root):
    async with LocalCluster(root, encoders=0, fsync=False) as cluster:
        replica = await cluster.add_api()
        assert replica.address != cluster.api.address
        assert await health(replica.address) == health_pb2.HealthCheckResponse.SERVING
        told = json.loads(cluster.description.read_text())
        assert told["metrics"]["api-2"] == replica.metrics_address
        processes = family(cluster.pids)
        assert psutil.Process(told["pids"]["api-2"]) in processes
    assert alive(processes) == []


async def test_service_that_does_not_start_is_named_with_its_reason(root):
    cluster = LocalCluster(
        root,
        encoders=0,
        fsync=False,
        extra_env={"storage": {"VIDEOEXPORT_STORAGE_NO_SUCH_SETTING": "1"}},
    )
    cluster.description.write_text("left by a killed predecessor")
    with pytest.raises(PartFailed) as failure:
        async with cluster:
            pytest.fail("a setting that is not known was accepted")
    assert str(failure.value).startswith("storage exited with status 2 before it was ready\n")
    assert "NO_SUCH_SETTING" in str(failure.value)
    assert cluster.pids == {}
    assert not cluster.description.exists()


async def test_interrupt_while_it_starts_leaves_nothing(root):
    process = await up("--data", str(root))
    record = root / "pids.json"
    async with asyncio.timeout(30):
        while len(read_json(record).get("children", [])) < 3:
            await asyncio.sleep(0.02)
    children = read_json(record)["children"]
    processes = family({name: child["pid"] for name, child in children.items()})
    process.send_signal(signal.SIGINT)
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, output) == (0, b"")
    assert b"Traceback" not in errors
    assert alive(processes) == []


async def test_second_up_on_one_directory_is_refused_in_one_sentence(cluster):
    process = await up("--data", str(cluster.directory))
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, output) == (1, b"")
    assert errors.decode().startswith("the cluster did not start: a cluster runs on ")
    assert len(errors.decode().splitlines()) == 1
