"""The server of every service: where it listens, what it says, how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.common.config import ServiceSettings
from services.common.server import RunningServer, _say, serving


class SampleSettings(ServiceSettings):
    """A service without settings of its own."""

    service: ClassVar[str] = "sample"


async def well() -> str | None:
    return None


@asynccontextmanager
async def sample(host: str) -> AsyncIterator[RunningServer]:
    settings = SampleSettings(listen_host=host, listen_port=0, metrics_port=0, drain_seconds=1)
    async with serving(
        settings, CollectorRegistry(), services=[], register=lambda server: None, check=well
    ) as server:
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_server_answers_at_the_address_that_it_names(host: str) -> None:
    async with sample(host) as server, grpc.aio.insecure_channel(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        answer = await check(health_pb2.HealthCheckRequest(service="liveness"), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_server_says_that_it_listens_on_loopback_only() -> None:
    with capture_logs() as logs:
        async with sample("127.0.0.1") as server:
            pass
    [entry] = [entry for entry in logs if "address" in entry]
    assert entry["address"] == server.address
    assert entry["event"].startswith("listening on loopback only")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3"])
def test_server_warns_when_it_listens_beyond_loopback(host: str) -> None:
    with capture_logs() as logs:
        _say(SampleSettings(listen_host=host), f"{host}:50051")
    [entry] = logs
    assert entry["log_level"] == "warning"
    assert "any user" in entry["event"]


async def test_two_servers_on_one_port_are_not_possible() -> None:
    async with sample("127.0.0.1") as server:
        other = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
        with pytest.raises(RuntimeError):
            other.add_insecure_port(server.address)
