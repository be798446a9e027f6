"""Docker's health check against a real health service."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc

from services.common.health import NOT_SERVING, SERVING, HealthReporter

HEALTHCHECK = Path(__file__).resolve().parents[3] / "deploy/docker/healthcheck.py"


async def well() -> str | None:
    return None


async def run_healthcheck(address: str) -> int | None:
    """Return the exit status of the health check."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HEALTHCHECK), env={**os.environ, "HEALTHCHECK_ADDRESS": address}
    )
    return await asyncio.wait_for(process.wait(), 20)


@pytest.mark.parametrize(("status", "code"), [(SERVING, 0), (NOT_SERVING, 1)])
async def test_healthcheck_tells_the_health(status: int, code: int) -> None:
    reporter = HealthReporter([], well)
    await reporter.servicer.set("", status)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(reporter.servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert await run_healthcheck(f"127.0.0.1:{port}") == code
    finally:
        await server.stop(None)


async def test_healthcheck_without_a_service() -> None:
    # Port 1 is reserved and nothing listens on it.
    assert await run_healthcheck("127.0.0.1:1") == 1
