"""The shared interceptor on a real server: domain errors, defects, metrics, in both call kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from api_service import refusal
from grpc import StatusCode
from grpc.aio import AioRpcError
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.common.errors import DomainError, Reason
from services.common.interceptors import ErrorInterceptor
from services.common.metrics import RpcMetrics
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1.export_service_pb2_grpc import (
    ExportServiceServicer,
    ExportServiceStub,
    add_ExportServiceServicer_to_server,
)

# Far above what the other calls take here.
LIMIT = 3.0
WRITE_LIMIT = 2.0

Behaviour = Callable[[], Awaitable[None]]


class Door(ExportServiceServicer):
    """Answers with what the test wants; one export comes before the end of a stream."""

    def __init__(self) -> None:
        self.behaviour: Behaviour
        self.closed = asyncio.Event()
        self.flooding = False

    async def GetExport(
        self, request: service.GetExportRequest, context: Any
    ) -> service.GetExportResponse:
        await self.behaviour()
        return service.GetExportResponse(export=pb.Export(id="exp_1"))

    async def WatchExport(
        self, request: service.WatchExportRequest, context: Any
    ) -> AsyncIterator[service.WatchExportResponse]:
        try:
            yield service.WatchExportResponse()
            while self.flooding:
                yield service.WatchExportResponse(export=pb.Export(id="x" * 50_000))
            await self.behaviour()
        finally:
            self.closed.set()


class Server:
    """A server with the interceptor, and what it counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # The stubs call every method abstract; those left out answer UNIMPLEMENTED.
        self.door = Door()  # type: ignore[abstract]
        self.stub: Any

    async def calls(self, method: str, code: str) -> float:
        """Return how many calls ended so, once one has: they are counted after their answer."""
        labels = {"service": "ExportService", "method": method, "code": code}
        async with asyncio.timeout(10):
            while not (count := self.registry.get_sample_value("videoexport_rpc_total", labels)):
                await asyncio.sleep(0.01)
        return count

    def errors(self, reason: str) -> float:
        name = "videoexport_rpc_errors_total"
        return self.registry.get_sample_value(name, {"reason": reason}) or 0.0

    async def get(self) -> Any:
        return await self.stub.GetExport(service.GetExportRequest())

    async def watch(self) -> list[Any]:
        stream = self.stub.WatchExport(service.WatchExportRequest())
        return [item async for item in stream]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    interceptor = ErrorInterceptor(
        RpcMetrics(made.registry), unary_limit=LIMIT, write_limit=WRITE_LIMIT
    )
    server = grpc.aio.server(interceptors=[interceptor])
    add_ExportServiceServicer_to_server(made.door, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        made.stub = ExportServiceStub(channel)
        yield made
    await server.stop(None)


async def well() -> None:
    pass


async def refuse() -> None:
    raise DomainError(Reason.QUEUE_FULL, "The queue is full.")


async def break_down() -> None:
    raise RuntimeError("postgresql://user:hush@host")


async def hang() -> None:
    await asyncio.sleep(60)


async def run_out_of_time() -> None:
    raise TimeoutError


async def test_answer_passes_and_is_counted(server: Server) -> None:
    server.door.behaviour = well
    assert (await server.get()).export.id == "exp_1"
    assert len(await server.watch()) == 1
    assert await server.calls("GetExport", "OK") == 1
    assert await server.calls("WatchExport", "OK") == 1


@pytest.mark.parametrize("call", ["get", "watch"])
async def test_domain_error_is_answered_with_its_status(server: Server, call: str) -> None:
    server.door.behaviour = refuse
    with capture_logs() as logs:
        refused = await refusal(getattr(server, call)())
    assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert refused.message == "The queue is full."
    method = "GetExport" if call == "get" else "WatchExport"
    assert await server.calls(method, "RESOURCE_EXHAUSTED") == 1
    assert server.errors("QUEUE_FULL") == 1
    assert logs == []


@pytest.mark.parametrize("call", ["get", "watch"])
async def test_defect_is_logged_once_and_answered_with_fixed_text(
    server: Server, call: str
) -> None:
    server.door.behaviour = break_down
    with capture_logs() as logs:
        refused = await refusal(getattr(server, call)())
    assert (refused.code, refused.reason) == (StatusCode.INTERNAL, "INTERNAL")
    assert "hush" not in refused.message
    assert len(logs) == 1
    assert (logs[0]["event"], logs[0]["log_level"]) == ("rpc failed", "error")
    assert isinstance(logs[0]["exc_info"], RuntimeError)
    assert server.errors("INTERNAL") == 1


async def test_stream_that_its_caller_leaves_is_closed_and_counted(server: Server) -> None:
    server.door.behaviour = hang
    stream = server.stub.WatchExport(service.WatchExportRequest())
    await stream.read()
    stream.cancel()
    async with asyncio.timeout(5):
        await server.door.closed.wait()
    assert await server.calls("WatchExport", "CANCELLED") == 1


async def test_call_that_runs_out_of_time_is_counted(server: Server) -> None:
    server.door.behaviour = hang
    with pytest.raises(AioRpcError) as raised:
        await server.stub.GetExport(service.GetExportRequest(), timeout=0.1)
    assert raised.value.code() is StatusCode.DEADLINE_EXCEEDED
    assert await server.calls("GetExport", "CANCELLED") == 1


async def test_call_without_a_deadline_ends_at_the_servers_limit(server: Server) -> None:
    server.door.behaviour = hang
    async with asyncio.timeout(30):
        refused = await refusal(server.get())
    assert (refused.code, refused.reason) == (StatusCode.DEADLINE_EXCEEDED, "TIME_LIMIT")
    assert refused.message == "The call was not done after 3 s."
    assert await server.calls("GetExport", "DEADLINE_EXCEEDED") == server.errors("TIME_LIMIT") == 1


async def test_timeout_of_a_handlers_own_is_a_defect(server: Server) -> None:
    server.door.behaviour = run_out_of_time
    refused = await refusal(server.get())
    assert (refused.code, refused.reason) == (StatusCode.INTERNAL, "INTERNAL")


async def test_stream_that_its_caller_does_not_read_gives_its_place_up(server: Server) -> None:
    server.door.behaviour, server.door.flooding = well, True
    stream = server.stub.WatchExport(service.WatchExportRequest())
    await stream.read()
    async with asyncio.timeout(10):
        await server.door.closed.wait()
    assert await server.calls("WatchExport", "CANCELLED") == 1
    # Whoever reads again is told.
    refused = await refusal(_read_on(stream))
    assert (refused.code, refused.reason) == (StatusCode.DEADLINE_EXCEEDED, "TIME_LIMIT")
    assert server.errors("TIME_LIMIT") == 1


async def test_stream_that_is_read_slowly_goes_on(server: Server) -> None:
    server.door.behaviour, server.door.flooding = well, True
    stream = server.stub.WatchExport(service.WatchExportRequest())
    loop = asyncio.get_running_loop()
    end = loop.time() + 2 * WRITE_LIMIT
    while loop.time() < end:
        assert await stream.read() is not grpc.aio.EOF
        await asyncio.sleep(WRITE_LIMIT / 400)
    server.door.flooding = False
    async with asyncio.timeout(10):
        await _read_on(stream)
    assert await server.calls("WatchExport", "OK") == 1


async def _read_on(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass
