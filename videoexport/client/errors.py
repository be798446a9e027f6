"""What can go wrong for a caller, each error as one plain sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from videoexport.v1 import export_pb2

# Codes that say that nobody answered, or that who answered cannot work now.
_UNREACHABLE = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)

D = TypeVar("D", bound=Message)


class VideoExportError(Exception):
    """Base of every error of this client; `str()` is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field of a request that cannot be accepted.

    Attributes:
        field: its path, such as `segments[3].end_time`.
        description: what is wrong with it.
    """

    field: str
    description: str


class Refused(VideoExportError):
    """The service understood the call and declined it; the same call would be declined again.

    Attributes:
        reason: stable code from docs/errors.md, such as `HOURLY_QUOTA`; the name of the
            gRPC status where the service gave none.
        message: one sentence for a person.
        violations: every field that is not valid, where that is the reason.
        retry_after: how long to wait before trying again, where waiting helps.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        violations: Sequence[FieldProblem] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.retry_after = retry_after


class ExportFailed(VideoExportError):
    """The export ended without a file: it failed, or was cancelled.

    Attributes:
        export: its last state; `export.error` says why, where it failed.
    """

    def __init__(self, export: export_pb2.Export) -> None:
        super().__init__(_ending(export))
        self.export = export

    @property
    def violations(self) -> tuple[FieldProblem, ...]:
        """Every field of the request that did not fit the source."""
        return tuple(
            FieldProblem(each.field, each.description) for each in self.export.error.violations
        )


class ServiceUnreachable(VideoExportError):
    """Nobody answered at the address, or who answered cannot work at the moment.

    Attributes:
        reason: stable code from docs/errors.md, such as `STORE_UNAVAILABLE`; empty where
            the service itself did not answer.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class ClientClosed(VideoExportError):
    """The client was closed before or during the call."""

    def __init__(self) -> None:
        super().__init__("The client is closed.")


class TransferFailed(VideoExportError):
    """The bytes of a file did not arrive whole."""


class LocalFileFailed(TransferFailed):
    """A file on this machine cannot be read or written, or changed while it was read."""


def error_of(error: grpc.aio.AioRpcError, address: str) -> Refused | ServiceUnreachable:
    """Return what the service at `address` meant by `error`, with all its details."""
    status = _status_of(error)
    info = _detail(status, error_details_pb2.ErrorInfo)
    if error.code() in _UNREACHABLE:
        if info is not None:
            return ServiceUnreachable(status.message, reason=info.reason)
        return ServiceUnreachable(_silence(error, address))
    request = _detail(status, error_details_pb2.BadRequest)
    retry = _detail(status, error_details_pb2.RetryInfo)
    return Refused(
        info.reason if info is not None else error.code().name,
        error.details() or f"The service answered {error.code().name}.",
        violations=[
            FieldProblem(each.field, each.description)
            for each in (request.field_violations if request is not None else ())
        ],
        retry_after=retry.retry_delay.ToTimedelta() if retry is not None else None,
    )


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    try:
        # An AioRpcError has the three methods that from_call reads.
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except (ValueError, DecodeError):  # not ours: written by a proxy on the way
        status = None
    return status or status_pb2.Status(message=error.details() or "")


def _detail(status: status_pb2.Status, kind: type[D]) -> D | None:
    packed: Any
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            return detail
    return None


def _silence(error: grpc.aio.AioRpcError, address: str) -> str:
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"The service at {address} did not answer in time."
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"What answers at {address} is not a videoexport service of this version."
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN:
            return f"The service at {address} met an error of its own."
        case _:
            return f"The service at {address} cannot be reached."


def _ending(export: export_pb2.Export) -> str:
    if export.state == export_pb2.EXPORT_STATE_CANCELLED:
        return f"Export {export.id} was cancelled."
    message = export.error.message or "no reason was given"
    return f"Export {export.id} failed: {message}"
