"""Liveness is not readiness: a dependency that is away must restart nothing."""

from __future__ import annotations

import asyncio
from typing import cast

from grpc.aio import ServicerContext
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from services.common.health import LIVENESS, NOT_SERVING, SERVING, HealthReporter

SERVICE = "videoexport.v1.SomeService"

Context = ServicerContext[HealthCheckRequest, HealthCheckResponse]


async def status(reporter: HealthReporter, name: str) -> int:
    """Return what the health service answers for a name that it knows."""
    # The context is used for unknown names only.
    answer = await reporter.servicer.Check(HealthCheckRequest(service=name), cast(Context, None))
    return answer.status


async def away() -> str | None:
    return "Postgres is away"


async def well() -> str | None:
    return None


async def test_liveness_before_the_first_check() -> None:
    reporter = HealthReporter([SERVICE], well)
    await reporter.start()
    assert await status(reporter, LIVENESS) == SERVING
    assert await status(reporter, SERVICE) == NOT_SERVING


async def test_liveness_while_a_dependency_is_away() -> None:
    reporter = HealthReporter([SERVICE], away, interval=0.01)
    await reporter.start()
    checking = asyncio.create_task(reporter.run())
    await asyncio.sleep(0.05)
    checking.cancel()
    assert await status(reporter, LIVENESS) == SERVING
    assert await status(reporter, SERVICE) == NOT_SERVING
    assert await status(reporter, "") == NOT_SERVING


async def test_liveness_while_the_service_serves() -> None:
    reporter = HealthReporter([SERVICE], well, interval=0.01)
    await reporter.start()
    checking = asyncio.create_task(reporter.run())
    await asyncio.sleep(0.05)
    checking.cancel()
    assert await status(reporter, LIVENESS) == SERVING
    assert await status(reporter, SERVICE) == SERVING
