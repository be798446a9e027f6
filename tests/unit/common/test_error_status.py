"""Domain errors as google.rpc.Status, within what a receiver can take."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from services.common.errors import DomainError, QuotaViolation, Reason, Violation, invalid_request
from services.common.status import (
    CEILING_MAX_DETAILS,
    DEFAULT_MAX_DETAILS,
    DETAILS_KEY,
    from_rpc_error,
    to_status,
)
from videoexport.channel import MAX_DETAILS

GRPC_DEFAULT_LIMIT = 8192

THOUSAND = [
    Violation(f"segments[{index}].end_time", "is beyond the end; the source ends at 123456.789 s")
    for index in range(1000)
]


def detail(status: status_pb2.Status, kind: Any) -> Any:
    """Return the one detail of a kind."""
    found = [item for item in status.details if item.Is(kind.DESCRIPTOR)]
    assert len(found) == 1
    message = kind()
    found[0].Unpack(message)
    return message


def metadata_size(status: status_pb2.Status) -> int:
    """Return what the trailers of a status weigh in the least favourable spelling."""
    entries = {
        "content-type": "application/grpc",
        "grpc-status": "16",
        "grpc-message": quote(status.message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"),
        DETAILS_KEY: base64.b64encode(status.SerializeToString()).decode(),
    }
    # RFC 9113 counts 32 bytes for each entry.
    return sum(len(key) + len(value) + 32 for key, value in entries.items())


def test_status_carries_code_message_and_reason() -> None:
    status = to_status(DomainError(Reason.EXPORT_NOT_FOUND, "There is no export exp_1."))
    assert status.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert status.message == "There is no export exp_1."
    info = detail(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("EXPORT_NOT_FOUND", "videoexport")
    assert len(status.details) == 1


def test_status_carries_quota_and_time_to_wait() -> None:
    status = to_status(
        DomainError(
            Reason.HOURLY_QUOTA,
            "Used up.",
            quota=QuotaViolation("user:anna", "exports created in an hour"),
            retry_after=timedelta(minutes=7, milliseconds=5),
        )
    )
    [violation] = detail(status, error_details_pb2.QuotaFailure).violations
    assert (violation.subject, violation.description) == ("user:anna", "exports created in an hour")
    retry = detail(status, error_details_pb2.RetryInfo)
    assert retry.retry_delay == Duration(seconds=420, nanos=5_000_000)


def test_time_to_wait_is_never_negative() -> None:
    error = DomainError(Reason.QUEUE_FULL, "Full.", retry_after=timedelta(seconds=-3))
    assert detail(to_status(error), error_details_pb2.RetryInfo).retry_delay == Duration()


def test_status_lists_every_violation_that_fits() -> None:
    status = to_status(invalid_request(THOUSAND[:20]))
    found = detail(status, error_details_pb2.BadRequest).field_violations
    assert [(item.field, item.description) for item in found] == [
        (item.field, item.description) for item in THOUSAND[:20]
    ]


def test_thousand_violations_stay_within_the_default_and_count_the_rest() -> None:
    status = to_status(invalid_request(THOUSAND))
    assert status.ByteSize() <= DEFAULT_MAX_DETAILS
    assert metadata_size(status) < GRPC_DEFAULT_LIMIT
    *listed, rest = detail(status, error_details_pb2.BadRequest).field_violations
    assert [item.field for item in listed] == [item.field for item in THOUSAND[: len(listed)]]
    assert len(listed) > 30
    assert rest.description.startswith(f"and {1000 - len(listed)} more;")


@pytest.mark.parametrize("length", range(1, 1000, 37))
def test_violations_of_any_length_stay_within_the_budget(length: int) -> None:
    for budget in (1000, DEFAULT_MAX_DETAILS):
        error = invalid_request([Violation("a", "x" * length)] * 1000)
        status = to_status(error, max_bytes=budget + len(error.message))
        assert status.ByteSize() <= budget + len(error.message)
        rest = detail(status, error_details_pb2.BadRequest).field_violations[-1]
        assert "more" in rest.description


def test_thousand_violations_all_fit_into_what_our_client_announces() -> None:
    status = to_status(invalid_request(THOUSAND), max_bytes=min(MAX_DETAILS, CEILING_MAX_DETAILS))
    found = detail(status, error_details_pb2.BadRequest).field_violations
    assert [item.field for item in found] == [item.field for item in THOUSAND]
    assert status.ByteSize() < MAX_DETAILS


@pytest.mark.parametrize("text", ["x", "%", "é", "界", "🎬", "a\n"])
def test_longest_message_leaves_room_for_its_details(text: str) -> None:
    error = DomainError(
        Reason.INVALID_REQUEST,
        text * 5000,
        violations=THOUSAND,
        quota=QuotaViolation("user:" + "u" * 128, "exports created in an hour"),
        retry_after=timedelta(hours=1),
    )
    status = to_status(error)
    assert status.message.startswith(text * 30)
    assert status.message.endswith("…")
    assert metadata_size(status) < GRPC_DEFAULT_LIMIT
    assert detail(status, error_details_pb2.ErrorInfo).reason == "INVALID_REQUEST"


def test_message_that_fits_is_not_cut() -> None:
    assert to_status(DomainError(Reason.INTERNAL, "x" * 1536)).message == "x" * 1536


def rpc_error(
    code: grpc.StatusCode, details: str = "", trailing: Metadata | None = None
) -> AioRpcError:
    return AioRpcError(code, Metadata(), trailing or Metadata(), details=details)


def test_error_of_another_service_keeps_its_reason_and_message() -> None:
    status = to_status(DomainError(Reason.BUCKET_NOT_ALLOWED, "Not that bucket."))
    trailing = Metadata((DETAILS_KEY, status.SerializeToString()))
    error = from_rpc_error(
        rpc_error(grpc.StatusCode.PERMISSION_DENIED, "Not that bucket.", trailing),
        unavailable=Reason.STORAGE_UNAVAILABLE,
    )
    assert (error.reason, error.message) == (Reason.BUCKET_NOT_ALLOWED, "Not that bucket.")


@pytest.mark.parametrize(
    "said",
    [
        invalid_request(THOUSAND[:3]),
        DomainError(
            Reason.RUNNING_QUOTA,
            "You have 3 unfinished exports.",
            quota=QuotaViolation("user:anna", "unfinished exports at the same time"),
            retry_after=timedelta(seconds=15),
        ),
        DomainError(Reason.SOURCE_NOT_FOUND, "There is no video vid_1."),
        DomainError(Reason.DRAINING, "Going away.", retry_after=timedelta(0)),
    ],
    ids=lambda said: said.reason,
)
def test_error_of_another_service_keeps_its_details(said: DomainError) -> None:
    trailing = Metadata((DETAILS_KEY, to_status(said).SerializeToString()))
    error = from_rpc_error(
        rpc_error(said.status, said.message, trailing), unavailable=Reason.INTERNAL
    )
    assert vars(error) == vars(said)


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED],
)
def test_service_that_does_not_answer_is_unavailable(code: grpc.StatusCode) -> None:
    error = from_rpc_error(
        rpc_error(code, "10.0.0.3:443 refused"), unavailable=Reason.STORAGE_UNAVAILABLE
    )
    assert error.reason is Reason.STORAGE_UNAVAILABLE
    assert "10.0.0.3" not in error.message


def test_unknown_error_of_another_service_is_internal_and_keeps_its_text_to_itself() -> None:
    error = from_rpc_error(
        rpc_error(grpc.StatusCode.UNKNOWN, "Traceback: secret"), unavailable=Reason.NO_ENCODER
    )
    assert error.reason is Reason.INTERNAL
    assert "secret" not in error.message


def test_reason_of_a_newer_service_is_not_taken_for_one_of_ours() -> None:
    status = status_pb2.Status(code=3, message="New.")
    info = error_details_pb2.ErrorInfo(reason="NOT_YET_KNOWN", domain="videoexport")
    status.details.add().Pack(info)
    trailing = Metadata((DETAILS_KEY, status.SerializeToString()))
    error = from_rpc_error(
        rpc_error(grpc.StatusCode.UNAVAILABLE, "New.", trailing),
        unavailable=Reason.STORAGE_UNAVAILABLE,
    )
    assert error.reason is Reason.STORAGE_UNAVAILABLE


def test_error_info_of_another_domain_is_not_ours() -> None:
    status = status_pb2.Status(code=14)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="INTERNAL", domain="proxy"))
    trailing = Metadata((DETAILS_KEY, status.SerializeToString()))
    error = from_rpc_error(
        rpc_error(grpc.StatusCode.UNAVAILABLE, "", trailing), unavailable=Reason.NO_ENCODER
    )
    assert error.reason is Reason.NO_ENCODER
