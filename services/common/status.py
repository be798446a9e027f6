"""Domain errors as `google.rpc.Status`, and back, with all their details."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import RpcError, StatusCode
from grpc.aio import AioRpcError

from services.common.errors import ERROR_DOMAIN, DomainError, QuotaViolation, Reason, Violation

M = TypeVar("M", bound=Message)

DETAILS_KEY = "grpc-status-details-bin"
MAX_DETAILS_KEY = "videoexport-max-error-bytes"
# A receiver with gRPC's defaults drops metadata above 8 KiB, and the real
# error with it. Details may travel as Base64, a third longer; the message
# travels once more beside them. Clients that accept more say so with MAX_DETAILS_KEY.
DEFAULT_MAX_DETAILS = 4608
CEILING_MAX_DETAILS = 512 * 1024
MAX_MESSAGE = 1536


def to_status(error: DomainError, *, max_bytes: int = DEFAULT_MAX_DETAILS) -> status_pb2.Status:
    """Return `error` as a status of at most about `max_bytes`.

    Violations that do not fit are replaced by one entry that counts them.
    """
    status = status_pb2.Status(code=error.status.value[0], message=_cut(error.message))
    _add(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN))
    if error.quota is not None:
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject=error.quota.subject, description=error.quota.description)
        _add(status, failure)
    if error.retry_after is not None:
        delay = Duration()
        delay.FromTimedelta(max(error.retry_after, timedelta(0)))
        _add(status, error_details_pb2.RetryInfo(retry_delay=delay))
    if error.violations:
        _add(status, _bad_request(error, max_bytes - status.ByteSize()))
    return status


def _cut(message: str) -> str:
    """Return as much of `message` as fits: the header `grpc-message` spells most bytes as %XX."""
    size = 0
    for index, char in enumerate(message):
        size += 1 if " " <= char <= "~" and char != "%" else 3 * len(char.encode())
        if size > MAX_MESSAGE:
            return message[: index - 9] + "…"
    return message


def _bad_request(error: DomainError, budget: int) -> error_details_pb2.BadRequest:
    request = error_details_pb2.BadRequest()
    used = 0
    for index, violation in enumerate(error.violations):
        used += len(violation.field.encode()) + len(violation.description.encode()) + 10
        if used > budget - 150:
            left = len(error.violations) - index
            request.field_violations.add(
                field="…",
                description=f"and {left} more; send {MAX_DETAILS_KEY} to receive them all",
            )
            break
        request.field_violations.add(field=violation.field, description=violation.description)
    return request


def _add(
    status: status_pb2.Status,
    detail: error_details_pb2.ErrorInfo
    | error_details_pb2.QuotaFailure
    | error_details_pb2.RetryInfo
    | error_details_pb2.BadRequest,
) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)


def from_rpc_error(error: RpcError, *, unavailable: Reason) -> DomainError:
    """Return what another of our services meant by `error`.

    Args:
        error: what the call raised.
        unavailable: the reason for a service that did not answer.
    """
    if not isinstance(error, AioRpcError):
        return DomainError(unavailable, "The service did not answer.")
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            found = _from_status(status_pb2.Status.FromString(value), error.details() or "")
            if found is not None:
                return found
    if error.code() in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.CANCELLED):
        return DomainError(unavailable, "A service that is needed did not answer in time.")
    return DomainError(Reason.INTERNAL, "Another service answered with an unknown error.")


def _from_status(status: status_pb2.Status, message: str) -> DomainError | None:
    """Return the error that `to_status` has made this of, or None where it was not ours."""
    info = _detail(status, error_details_pb2.ErrorInfo())
    if info is None or info.domain != ERROR_DOMAIN or info.reason not in Reason.__members__:
        return None
    request = _detail(status, error_details_pb2.BadRequest())
    failure = _detail(status, error_details_pb2.QuotaFailure())
    retry = _detail(status, error_details_pb2.RetryInfo())
    quota = failure.violations[0] if failure and failure.violations else None
    return DomainError(
        Reason(info.reason),
        message or info.reason,
        violations=[
            Violation(item.field, item.description)
            for item in (request.field_violations if request else ())
        ],
        quota=QuotaViolation(quota.subject, quota.description) if quota else None,
        retry_after=retry.retry_delay.ToTimedelta() if retry else None,
    )


def _detail(status: status_pb2.Status, kind: M) -> M | None:
    """Return the first detail of a kind, filled into `kind`."""
    return next((kind for packed in status.details if packed.Unpack(kind)), None)
