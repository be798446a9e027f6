"""Health that tells the truth: NOT_SERVING at first, then what the service's own check says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from grpc_health.v1.health import aio as health_aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

log = structlog.get_logger()

# Returns why the service cannot serve, or None.
Check = Callable[[], Awaitable[str | None]]

# A name beside the services', for orchestrators: whoever gets an answer has a live process.
# What a service depends on must not count here, or an outage of Postgres would restart
# every replica of the API.
LIVENESS = "liveness"

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING


class HealthReporter:
    """Keeps the standard health service in step with a check; logs changes only."""

    def __init__(
        self, services: Sequence[str], check: Check, *, interval: float = 1.0, timeout: float = 3.0
    ) -> None:
        self.servicer = health_aio.HealthServicer()
        self._names = ("", *services)
        self._check = check
        self._interval = interval
        self._timeout = timeout
        self._reported: str | None = "not checked yet"
        self._closed = False

    async def start(self) -> None:
        """Report NOT_SERVING for every service, until the first check says otherwise.

        LIVENESS alone is SERVING, from the server's first answer to `close`.
        """
        await self._set(NOT_SERVING)
        await self.servicer.set(LIVENESS, SERVING)

    async def run(self) -> None:
        """Check for ever; more often while the service cannot serve, so that it is soon back."""
        while not self._closed:
            await self._step()
            serving = self._reported is None
            await asyncio.sleep(self._interval if serving else self._interval / 5)

    async def close(self) -> None:
        """Report NOT_SERVING from now on, so that callers go elsewhere."""
        self._closed = True
        await self.servicer.enter_graceful_shutdown()

    async def _step(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                problem = await self._check()
        except TimeoutError:
            problem = "the check took too long"
        except Exception as error:
            problem = f"the check failed: {type(error).__name__}"
        if problem == self._reported or self._closed:
            return
        self._reported = problem
        if problem is None:
            log.info("serving")
            await self._set(SERVING)
        else:
            log.warning("not serving", problem=problem)
            await self._set(NOT_SERVING)

    async def _set(self, value: int) -> None:
        for name in self._names:
            await self.servicer.set(name, value)
