"""Page tokens: opaque, bound to their filters, refused when damaged."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.api.page_token import MAX_TOKEN, decode_token, encode_token
from services.common.errors import DomainError, Reason
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service

EXPORT = "exp_" + "a" * 32
CREATED = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
FILTERS = service.ListExportsRequest(
    video_id="vid_" + "0" * 32,
    states=[pb.EXPORT_STATE_FAILED],
    created_after=Timestamp(seconds=5),
    created_before=Timestamp(seconds=9),
)


def with_token(request: service.ListExportsRequest, token: str) -> service.ListExportsRequest:
    copy = service.ListExportsRequest()
    copy.CopyFrom(request)
    copy.page_token = token
    return copy


def refusal(request: service.ListExportsRequest) -> str:
    with pytest.raises(DomainError) as raised:
        decode_token(request)
    assert raised.value.reason is Reason.INVALID_PAGE_TOKEN
    return raised.value.message


def spelled(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_token_leads_back_to_where_the_page_ended(created: datetime, number: object) -> None:
    export_id = f"exp_{str(number).replace('-', '')}"
    token = encode_token(FILTERS, created, export_id)
    assert len(token) < MAX_TOKEN
    assert decode_token(with_token(FILTERS, token)) == (created, export_id)


def test_first_page_has_no_token() -> None:
    assert decode_token(FILTERS) is None


def test_token_allows_another_page_size() -> None:
    request = with_token(FILTERS, encode_token(FILTERS, CREATED, EXPORT))
    request.page_size = 7
    assert decode_token(request) == (CREATED, EXPORT)


@pytest.mark.parametrize("name", ["video_id", "states", "created_after", "created_before"])
def test_token_of_other_filters_is_refused(name: str) -> None:
    other = with_token(FILTERS, encode_token(FILTERS, CREATED, EXPORT))
    other.ClearField(name)  # type: ignore[arg-type]
    assert "other filters" in refusal(other)


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é",
        "====",
        "not base64 at all!",
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        spelled("text"),
        spelled(5),
        spelled(None),
        spelled({}),
        spelled([]),
        spelled(["a", "b"]),
        spelled(["a", "b", "c", "d"]),
        spelled(["a", 5, EXPORT]),
        spelled(["a", "yesterday", EXPORT]),
        spelled(["a", "2026-03-04T05:06:07", EXPORT]),  # no time zone
        spelled(["a", CREATED.isoformat(), "vid_" + "a" * 32]),
        spelled(["a", CREATED.isoformat(), 5]),
        spelled(["a", CREATED.isoformat(), [EXPORT]]),
        base64.urlsafe_b64encode(b"[" * 300_000).decode(),
        base64.urlsafe_b64encode(b"9" * 10_000).decode(),
    ],
)
def test_damaged_token_is_refused(token: str) -> None:
    assert refusal(with_token(FILTERS, token)) == "The page token is damaged."


def test_token_cut_short_is_refused_at_every_length() -> None:
    token = encode_token(FILTERS, CREATED, EXPORT)
    for length in range(1, len(token)):
        refusal(with_token(FILTERS, token[:length]))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    request = with_token(FILTERS, base64.urlsafe_b64encode(data).decode())
    if data:
        refusal(request)
    else:
        assert decode_token(request) is None


def test_tokens_of_neighbours_differ() -> None:
    first = encode_token(FILTERS, CREATED, EXPORT)
    assert first != encode_token(FILTERS, CREATED + timedelta(microseconds=1), EXPORT)
    assert first != encode_token(FILTERS, CREATED, "exp_" + "b" * 32)
