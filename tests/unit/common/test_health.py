"""Health follows the service's own check, and logs changes only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from grpc.aio import ServicerContext
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from structlog.testing import capture_logs

from services.common.health import NOT_SERVING, SERVING, Dependency, DependencyName, HealthReporter

SERVICE = "videoexport.v1.SomeService"


class Doctor:
    """A check whose answers the test gives one by one."""

    def __init__(self) -> None:
        self._answers: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self._asked: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self) -> str | None:
        self._asked.put_nowait(None)
        answer = await self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def is_asked(self) -> None:
        """Wait for the next check; what came before it has been reported."""
        await self._asked.get()

    def answers(self, answer: str | Exception | None) -> None:
        self._answers.put_nowait(answer)

    async def says(self, answer: str | Exception | None) -> None:
        self.answers(answer)
        await self.is_asked()


@asynccontextmanager
async def reporting(
    doctor: Doctor, *dependencies: Dependency, timeout: float = 3.0
) -> AsyncIterator[HealthReporter]:
    reporter = HealthReporter([SERVICE], doctor, dependencies, interval=0, timeout=timeout)
    await reporter.start()
    task = asyncio.create_task(reporter.run())
    try:
        yield reporter
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def status(reporter: HealthReporter, name: str) -> int:
    """Return what is reported for a name."""
    # The context is used for unknown names only.
    context = cast(ServicerContext[HealthCheckRequest, HealthCheckResponse], None)
    return (await reporter.servicer.Check(HealthCheckRequest(service=name), context)).status


async def statuses(reporter: HealthReporter) -> set[int]:
    """Return what is reported for the service and for the server as a whole."""
    return {await status(reporter, name) for name in ("", SERVICE)}


async def test_health_is_not_serving_before_the_first_check_has_answered() -> None:
    doctor = Doctor()
    async with reporting(doctor) as reporter:
        assert await statuses(reporter) == {NOT_SERVING}
        await doctor.is_asked()
        assert await statuses(reporter) == {NOT_SERVING}


async def test_health_follows_the_check() -> None:
    doctor = Doctor()
    async with reporting(doctor) as reporter:
        await doctor.is_asked()
        await doctor.says(None)
        assert await statuses(reporter) == {SERVING}
        await doctor.says("Postgres is away")
        assert await statuses(reporter) == {NOT_SERVING}
        await doctor.says(None)
        assert await statuses(reporter) == {SERVING}


async def test_health_logs_changes_only() -> None:
    doctor = Doctor()
    with capture_logs() as logs:
        async with reporting(doctor):
            await doctor.is_asked()
            for answer in ("a", "a", "b", None, None, None, "a", "a"):
                await doctor.says(answer)
    assert [(entry["event"], entry.get("problem")) for entry in logs] == [
        ("not serving", "a"),
        ("not serving", "b"),
        ("serving", None),
        ("not serving", "a"),
    ]


async def test_check_that_fails_is_not_serving_and_keeps_its_text_out_of_the_log() -> None:
    doctor = Doctor()
    with capture_logs() as logs:
        async with reporting(doctor) as reporter:
            await doctor.is_asked()
            await doctor.says(None)
            await doctor.says(RuntimeError("postgresql://user:hush@host"))
            assert await statuses(reporter) == {NOT_SERVING}
            await doctor.says(None)
            assert await statuses(reporter) == {SERVING}
    assert "hush" not in str(logs)
    assert "RuntimeError" in str(logs)


async def test_check_that_hangs_is_not_serving() -> None:
    doctor = Doctor()
    async with reporting(doctor, timeout=0.05) as reporter:
        await doctor.is_asked()
        await doctor.says(None)
        assert await statuses(reporter) == {SERVING}
        await doctor.is_asked()  # the one before has run out of time
        assert await statuses(reporter) == {NOT_SERVING}


async def test_health_that_is_closed_stays_not_serving() -> None:
    doctor = Doctor()
    async with reporting(doctor) as reporter:
        await doctor.is_asked()
        await doctor.says(None)
        await reporter.close()
        assert await statuses(reporter) == {NOT_SERVING}
        with capture_logs() as logs:
            doctor.answers("too late")
            await asyncio.sleep(0.01)
        assert await statuses(reporter) == {NOT_SERVING}
        assert logs == []


async def test_dependency_that_is_needed_decides_and_another_is_only_told_of() -> None:
    own, postgres, nats = Doctor(), Doctor(), Doctor()
    needed = Dependency(DependencyName.POSTGRES, postgres)
    extra = Dependency(DependencyName.NATS, nats, needed=False)
    names = ("", "dependency.postgres", "dependency.nats")
    with capture_logs() as logs:
        async with reporting(own, needed, extra) as reporter:

            async def after(*answers: str | None) -> list[int]:
                for doctor, answer in zip((own, postgres, nats), answers, strict=True):
                    doctor.answers(answer)
                for doctor in (own, postgres, nats):
                    await doctor.is_asked()
                return [await status(reporter, name) for name in names]

            for doctor in (own, postgres, nats):
                await doctor.is_asked()
            assert [await status(reporter, name) for name in names] == [NOT_SERVING] * 3
            assert await after(None, None, None) == [SERVING, SERVING, SERVING]
            assert await after(None, None, "away") == [SERVING, SERVING, NOT_SERVING]
            assert await after(None, None, "away") == [SERVING, SERVING, NOT_SERVING]
            assert await after(None, "down", "away") == [NOT_SERVING, NOT_SERVING, NOT_SERVING]
            assert await after("draining", None, None) == [NOT_SERVING, SERVING, SERVING]
    told = [(entry["event"], entry.get("problem")) for entry in logs]
    assert told == [
        ("serving", None),
        ("dependency is away", "away"),
        ("not serving", "down"),
        ("dependency is back", None),
        ("not serving", "draining"),
    ]


async def test_dependency_whose_check_hangs_is_away_and_holds_up_no_other() -> None:
    own, nats = Doctor(), Doctor()
    extra = Dependency(DependencyName.NATS, nats, needed=False)
    async with reporting(own, extra, timeout=0.05) as reporter:
        for _ in range(2):
            await own.is_asked()
            own.answers(None)
        await own.is_asked()
        assert await statuses(reporter) == {SERVING}
        assert await status(reporter, "dependency.nats") == NOT_SERVING
