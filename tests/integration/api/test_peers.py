"""Having a source examined by some encoder, of which some are busy, away, slow or dying."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import grpc
import pytest
from api_rig import INFO, SOURCE
from prometheus_client import CollectorRegistry

from services.api import peers
from services.api.peers import probe_by_any
from services.common.caller import user_of
from services.common.errors import DomainError, Reason, Violation, invalid_request
from services.common.interceptors import ErrorInterceptor
from services.common.metrics import RpcMetrics
from videoexport.v1 import encoder_service_pb2 as encoder
from videoexport.v1.encoder_service_pb2_grpc import (
    EncoderServiceServicer,
    add_EncoderServiceServicer_to_server,
)

Behaviour = Callable[[], Awaitable[None]]


class Prober(EncoderServiceServicer):
    """An encoder that answers Probe as the test wants, and counts its calls."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.users: list[str] = []
        self.ended = asyncio.Event()
        self.address: str
        self.die: Callable[[], Awaitable[None]]

    async def Probe(self, request: encoder.ProbeRequest, context: Any) -> encoder.ProbeResponse:
        assert request.source == SOURCE
        self.users.append(user_of(context))
        try:
            await self._behaviour()
        finally:
            self.ended.set()
        return encoder.ProbeResponse(info=INFO)


StartProber = Callable[[Behaviour], Awaitable[Prober]]


@pytest.fixture
async def start() -> AsyncIterator[StartProber]:
    """Start encoders on loopback."""
    async with AsyncExitStack() as stack:

        async def start(behaviour: Behaviour) -> Prober:
            # The stubs call every method abstract; those left out answer UNIMPLEMENTED.
            prober = Prober(behaviour)  # type: ignore[abstract]
            interceptor = ErrorInterceptor(RpcMetrics(CollectorRegistry()), unary_limit=60)
            server = grpc.aio.server(interceptors=[interceptor])
            add_EncoderServiceServicer_to_server(prober, server)
            prober.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            prober.die = partial(server.stop, None)
            stack.push_async_callback(server.stop, None)
            return prober

        yield start


@pytest.fixture
def refusing() -> str:
    """An address at which connections are refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def saying(reason: Reason) -> Behaviour:
    async def refuse() -> None:
        raise DomainError(reason, "So it is.")

    return refuse


async def well() -> None:
    pass


async def hang() -> None:
    await asyncio.sleep(60)


async def probe(*addresses: str, timeout: float = 10) -> Any:
    return await probe_by_any(addresses, "anna", SOURCE, timeout)


async def refusal(*addresses: str, timeout: float = 10) -> DomainError:
    with pytest.raises(DomainError) as raised:
        await probe(*addresses, timeout=timeout)
    return raised.value


async def test_next_encoder_is_asked_when_one_has_no_time_or_is_not_there(
    start: StartProber, refusing: str
) -> None:
    busy = await start(saying(Reason.SLOTS_BUSY))
    leaving = await start(saying(Reason.DRAINING))
    free, spare = await start(well), await start(well)
    addresses = (busy.address, refusing, leaving.address, free.address, spare.address)
    started = time.monotonic()
    assert await probe(*addresses) == INFO
    # A refusal is not waited out.
    assert time.monotonic() - started < 1.5
    assert [busy.users, leaving.users, free.users, spare.users] == [["anna"]] * 3 + [[]]


async def test_encoder_that_does_not_accept_is_passed_over(
    start: StartProber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "CONNECT_SECONDS", 0.3)
    free = await start(well)
    # Connected by the kernel alone, as to a process that is stopped.
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        assert await probe(f"127.0.0.1:{frozen.getsockname()[1]}", free.address) == INFO


@pytest.mark.parametrize("reason", [Reason.SLOTS_BUSY, Reason.DRAINING])
async def test_no_encoder_is_free_when_all_are_busy(start: StartProber, reason: Reason) -> None:
    probers = [await start(saying(reason)) for _ in range(2)]
    error = await refusal(*(prober.address for prober in probers))
    assert error.reason is Reason.NO_ENCODER
    assert error.retry_after is not None
    assert [prober.users for prober in probers] == [["anna"], ["anna"]]


async def test_what_is_wrong_with_the_source_is_told_as_it_is(start: StartProber) -> None:
    said = invalid_request([Violation("source.video_id", "must be a video")])

    async def refuse() -> None:
        raise said

    first, second = await start(refuse), await start(well)
    error = await refusal(first.address, second.address)
    assert (error.reason, error.violations) == (said.reason, said.violations)
    assert second.users == []


async def test_slow_source_is_given_up_in_time_and_shown_to_no_other(start: StartProber) -> None:
    slow, other = await start(hang), await start(well)
    started = time.monotonic()
    error = await refusal(slow.address, other.address, timeout=0.5)
    assert error.reason is Reason.TIME_LIMIT
    assert time.monotonic() - started < 1.5
    assert other.users == []
    async with asyncio.timeout(5):
        await slow.ended.wait()


async def test_limit_holds_for_all_encoders_together(
    start: StartProber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "CONNECT_SECONDS", 0.4)
    free = await start(well)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        address = f"127.0.0.1:{frozen.getsockname()[1]}"
        error = await refusal(address, address, free.address, timeout=0.6)
    assert error.reason is Reason.TIME_LIMIT
    assert free.users == []


async def test_source_that_an_encoder_dies_of_is_shown_to_no_other(start: StartProber) -> None:
    async def die() -> None:
        asyncio.create_task(dying.die())  # noqa: RUF006 — it ends this very call
        await hang()

    dying, other = await start(die), await start(well)
    error = await refusal(dying.address, other.address)
    assert error.reason is Reason.NO_ENCODER
    assert (dying.users, other.users) == (["anna"], [])
