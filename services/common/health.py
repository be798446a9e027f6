"""Health that tells the truth: NOT_SERVING at first, then what the service's own checks say.

Three questions, each with names of its own in the standard health service:

- "" and the services' names: can callers be answered? Follows what that takes.
- `dependency.<name>`: is this one there? For people and alerts; also where nothing that is
  asked of the service depends on it at once.
- `liveness`: is the process alive? Follows nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog
from grpc_health.v1.health import aio as health_aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from services.common.metrics import DependencyMetrics

log = structlog.get_logger()

# Returns why something cannot be used, or None.
Check = Callable[[], Awaitable[str | None]]

# A name beside the services', for orchestrators: whoever gets an answer has a live process.
# What a service depends on must not count here, or an outage of Postgres would restart
# every replica of the API.
LIVENESS = "liveness"

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING


class DependencyName(StrEnum):
    """What services stand on."""

    POSTGRES = "postgres"
    NATS = "nats"
    STORAGE = "storage"  # the StorageService
    S3 = "s3"

    @property
    def health_name(self) -> str:
        """What the health service calls it."""
        return f"dependency.{self.value}"


@dataclass(frozen=True)
class Dependency:
    """Something that a service stands on.

    Attributes:
        check: why it cannot be used now, or None.
        needed: whether the service can answer nobody without it.
    """

    name: DependencyName
    check: Check
    needed: bool = True


class HealthReporter:
    """Keeps the standard health service in step with checks; logs changes only.

    Args:
        services: full names.
        check: why the service itself cannot serve now, whatever it stands on.
        dependencies: what it stands on.
        interval: seconds between two rounds of checks.
        timeout: seconds that each check may take.
    """

    def __init__(
        self,
        services: Sequence[str],
        check: Check,
        dependencies: Sequence[Dependency] = (),
        metrics: DependencyMetrics | None = None,
        *,
        interval: float = 1.0,
        timeout: float = 3.0,
    ) -> None:
        self.servicer = health_aio.HealthServicer()
        self._names = ("", *services)
        self._check = check
        self._dependencies = tuple(dependencies)
        self._metrics = metrics
        self._interval = interval
        self._timeout = timeout
        self._reported: str | None = "not checked yet"
        self._away: dict[DependencyName, str] = {}
        self._closed = False

    async def start(self) -> None:
        """Report NOT_SERVING for everything, until the first checks say otherwise.

        LIVENESS alone is SERVING, from the server's first answer to `close`.
        """
        await self._set(NOT_SERVING)
        for dependency in self._dependencies:
            await self._tell(dependency.name, NOT_SERVING)
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
        checks = [self._check, *(dependency.check for dependency in self._dependencies)]
        # Side by side: one that hangs must not put off the word on the others by its time.
        own, *found = await asyncio.gather(*map(self._ask, checks))
        if self._closed:
            return
        problem = own
        for dependency, trouble in zip(self._dependencies, found, strict=True):
            await self._note(dependency, trouble)
            if dependency.needed:
                problem = problem or trouble
        if problem == self._reported:
            return
        self._reported = problem
        if problem is None:
            log.info("serving")
            await self._set(SERVING)
        else:
            log.warning("not serving", problem=problem)
            await self._set(NOT_SERVING)

    async def _ask(self, check: Check) -> str | None:
        try:
            async with asyncio.timeout(self._timeout):
                return await check()
        except TimeoutError:
            return "the check took too long"
        except Exception as error:
            return f"the check failed: {type(error).__name__}"

    async def _note(self, dependency: Dependency, problem: str | None) -> None:
        name = dependency.name
        await self._tell(name, SERVING if problem is None else NOT_SERVING)
        before = self._away.get(name)
        if problem == before:
            return
        if problem is None:
            del self._away[name]
        else:
            self._away[name] = problem
        # What the service needs is named where it says that it does not serve.
        if not dependency.needed:
            if problem is None:
                log.info("dependency is back", dependency=name)
            else:
                log.warning("dependency is away", dependency=name, problem=problem)

    async def _tell(self, name: DependencyName, value: int) -> None:
        await self.servicer.set(name.health_name, value)
        if self._metrics is not None:
            self._metrics.up.labels(name).set(value == SERVING)

    async def _set(self, value: int) -> None:
        for name in self._names:
            await self.servicer.set(name, value)
