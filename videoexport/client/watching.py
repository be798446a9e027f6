"""Following an export over a stream that may break."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import grpc

from videoexport.client.calls import Backoff, Connection
from videoexport.client.errors import Refused, ServiceUnreachable, error_of
from videoexport.v1 import export_pb2, export_service_pb2

if TYPE_CHECKING:  # the asynchronous stubs are types only
    from videoexport.v1.export_service_pb2_grpc import ExportServiceAsyncStub

# A stream is opened anew after this many seconds, so that a replica that
# lost its caller unseen does not keep it for ever.
_STREAM_LIFE = 3600.0

TERMINAL_STATES = frozenset(
    {
        export_pb2.EXPORT_STATE_COMPLETED,
        export_pb2.EXPORT_STATE_FAILED,
        export_pb2.EXPORT_STATE_CANCELLED,
        export_pb2.EXPORT_STATE_EXPIRED,
    }
)

# How a stream ends when the server or the way to it goes away.
_INTERRUPTIONS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)

# Another replica, or this one in a moment, has room for the watch.
_FULL = "TOO_MANY_WATCHES"


async def watch(
    connection: Connection, stub: ExportServiceAsyncStub, export_id: str
) -> AsyncGenerator[export_pb2.Export, None]:
    """Yield the export now and after every change, through the first terminal state.

    Progress never goes back, even where a replica that answers after a
    disconnect knows less than the one before.

    Raises:
        Refused: the caller has no such export.
        ServiceUnreachable: the stream broke and could not be opened again in time.
    """
    progress = 0.0
    backoff = Backoff(connection.patience)
    request = export_service_pb2.WatchExportRequest(export_id=export_id)
    while True:
        await connection.ready(within=backoff.remaining)
        call = stub.WatchExport(request, metadata=connection.metadata, timeout=_STREAM_LIFE)
        problem: ServiceUnreachable | Refused = ServiceUnreachable(
            f"The service at {connection.address} ended the watch."
        )
        try:
            async for response in call:
                backoff = Backoff(connection.patience)
                export = response.export
                export.progress = progress = max(progress, export.progress)
                yield export
                if export.state in TERMINAL_STATES:
                    return
        except grpc.aio.AioRpcError as error:
            meaning = error_of(error, connection.address)
            interrupted = error.code() in _INTERRUPTIONS and isinstance(meaning, ServiceUnreachable)
            if not interrupted and meaning.reason != _FULL:
                raise meaning from error
            problem = meaning
        finally:
            call.cancel()
        if not await backoff.pause():
            raise problem
