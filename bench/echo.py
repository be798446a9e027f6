"""The yardstick of the load figures: a bare grpc.aio server that answers and does nothing.

python -m bench.echo <file of an Export>; prints its port.
It speaks the same messages as ExportService, without interceptors, store or metrics.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from grpc.aio import ServicerContext

from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service

SERVICE_NAME = "videoexport.v1.ExportService"
# Seconds between two messages of a stream, in the metadata of the call; 0: as fast as it reads.
INTERVAL_KEY = "bench-interval"

Context = ServicerContext[Any, Any]


class Echo:
    """Answers with one export, whatever is asked."""

    def __init__(self, export: pb.Export) -> None:
        self._export = export
        self._tick = 0
        self._message = service.WatchExportResponse(export=export)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the methods of ExportService that are compared."""
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "CreateExport": grpc.unary_unary_rpc_method_handler(
                self.create,
                request_deserializer=service.CreateExportRequest.FromString,
                response_serializer=service.CreateExportResponse.SerializeToString,
            ),
            "WatchExport": grpc.unary_stream_rpc_method_handler(
                self.watch,
                request_deserializer=service.WatchExportRequest.FromString,
                response_serializer=service.WatchExportResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    async def create(
        self, request: service.CreateExportRequest, context: Context
    ) -> service.CreateExportResponse:
        """Return the export."""
        return service.CreateExportResponse(export=self._export)

    async def watch(
        self, request: service.WatchExportRequest, context: Context
    ) -> AsyncIterator[service.WatchExportResponse]:
        """Stream the export for ever; `frames_done` is the number of the change.

        Change n happens at n intervals of the machine's monotonic clock, which all
        processes read alike.
        """
        interval = _interval(context)
        while interval == 0:
            yield self._message
        while True:
            tick = int(time.monotonic() / interval) + 1
            await asyncio.sleep(tick * interval - time.monotonic())
            yield self._at(tick)

    def _at(self, tick: int) -> service.WatchExportResponse:
        if tick != self._tick:
            self._tick = tick
            self._message = service.WatchExportResponse(export=self._export)
            self._message.export.encode_status.frames_done = tick
        return self._message


def _interval(context: Context) -> float:
    for key, value in context.invocation_metadata() or ():
        if key == INTERVAL_KEY:
            return float(value)
    return 0.0


async def serve(export: pb.Export) -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(export).handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(pb.Export.FromString(Path(sys.argv[1]).read_bytes())))
