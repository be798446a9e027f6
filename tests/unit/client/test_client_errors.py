"""What a gRPC status becomes: one sentence, the reason, every violation, when to try again."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from videoexport.client import ExportFailed, Refused, ServiceUnreachable
from videoexport.client.errors import error_of
from videoexport.v1 import export_pb2

ADDRESS = "127.0.0.1:1"


def rpc_error(code: grpc.StatusCode, message: str, *details: Message) -> AioRpcError:
    """Return what a call raises when a service of ours answers like this."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    trailing = Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return AioRpcError(code, Metadata(), trailing, details=message)


def reason(name: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=name, domain="videoexport")


def test_error_of_keeps_every_violation() -> None:
    request = error_details_pb2.BadRequest()
    for index in range(300):
        request.field_violations.add(field=f"segments[{index}].end_time", description="is early")
    error = error_of(
        rpc_error(
            grpc.StatusCode.INVALID_ARGUMENT, "Not valid.", reason("INVALID_SEGMENTS"), request
        ),
        ADDRESS,
    )
    assert isinstance(error, Refused)
    assert error.reason == "INVALID_SEGMENTS"
    assert str(error) == "Not valid."
    assert len(error.violations) == 300
    assert error.violations[3].field == "segments[3].end_time"
    assert error.violations[3].description == "is early"


def test_error_of_says_when_to_try_again() -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=90))
    error = error_of(
        rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many.", reason("HOURLY_QUOTA"), retry),
        ADDRESS,
    )
    assert isinstance(error, Refused)
    assert error.reason == "HOURLY_QUOTA"
    assert error.retry_after == timedelta(seconds=90)
    assert error.violations == ()


def test_error_of_names_the_dependency_that_is_away() -> None:
    error = error_of(
        rpc_error(grpc.StatusCode.UNAVAILABLE, "No database.", reason("STORE_UNAVAILABLE")), ADDRESS
    )
    assert isinstance(error, ServiceUnreachable)
    assert (str(error), error.reason) == ("No database.", "STORE_UNAVAILABLE")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (grpc.StatusCode.UNAVAILABLE, "cannot be reached"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "in time"),
        (grpc.StatusCode.UNIMPLEMENTED, "not a videoexport service"),
        (grpc.StatusCode.INTERNAL, "error of its own"),
        (grpc.StatusCode.UNKNOWN, "error of its own"),
    ],
)
def test_error_of_shows_no_text_of_grpc(code: grpc.StatusCode, words: str) -> None:
    bare = AioRpcError(code, Metadata(), Metadata(), details="ipv4:127.0.0.1:1: errno 111")
    error = error_of(bare, ADDRESS)
    assert isinstance(error, ServiceUnreachable)
    assert error.reason == ""
    assert words in str(error)
    assert ADDRESS in str(error)
    assert "errno" not in str(error)


def test_error_of_survives_details_that_are_not_ours() -> None:
    trailing = Metadata(("grpc-status-details-bin", b"\xff\xff\xff"))
    garbled = AioRpcError(grpc.StatusCode.NOT_FOUND, Metadata(), trailing, details="No export.")
    error = error_of(garbled, ADDRESS)
    assert isinstance(error, Refused)
    assert (str(error), error.reason) == ("No export.", "NOT_FOUND")


def test_export_failed_says_why() -> None:
    failed = export_pb2.Export(id="exp_1", state=export_pb2.EXPORT_STATE_FAILED)
    failed.error.message = "The source holds no video."
    failed.error.violations.add(field="segments[0]", description="is too long")
    error = ExportFailed(failed)
    assert str(error) == "Export exp_1 failed: The source holds no video."
    assert [each.field for each in error.violations] == ["segments[0]"]
    cancelled = export_pb2.Export(id="exp_2", state=export_pb2.EXPORT_STATE_CANCELLED)
    assert str(ExportFailed(cancelled)) == "Export exp_2 was cancelled."
