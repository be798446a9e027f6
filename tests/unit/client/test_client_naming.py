"""Times are kept exactly; what is not a time or a source is said to be none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc.aio import ServicerContext
from hypothesis import given
from hypothesis import strategies as st

from services.common.caller import USER_KEY, user_of
from services.common.errors import DomainError
from videoexport.client import (
    AsyncClient,
    Client,
    duration,
    parse_segment,
    segment,
    source_message,
    user_name,
)
from videoexport.v1 import export_pb2

NANOS = 1_000_000_000
MAX_SECONDS = 315_576_000_000

nanoseconds = st.integers(0, MAX_SECONDS * NANOS)


def clock_of(nanos: int) -> str:
    """Write a time as HH:MM:SS.nnnnnnnnn."""
    seconds, rest = divmod(nanos, NANOS)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:09}"


def nanos_of(value: Duration) -> int:
    return value.seconds * NANOS + value.nanos


@given(nanoseconds)
def test_duration_of_decimal_text_is_exact_to_the_nanosecond(nanos: int) -> None:
    text = f"{nanos // NANOS}.{nanos % NANOS:09}"
    assert nanos_of(duration(text)) == nanos
    assert nanos_of(duration(Decimal(text))) == nanos
    assert nanos_of(duration(-Decimal(text))) == -nanos


@given(nanoseconds)
def test_duration_of_a_clock_time_is_exact_to_the_nanosecond(nanos: int) -> None:
    assert nanos_of(duration(clock_of(nanos))) == nanos


@given(nanoseconds, nanoseconds)
def test_parse_segment_reads_back_both_ends(start: int, end: int) -> None:
    parsed = parse_segment(f"{clock_of(start)}-{clock_of(end)}")
    assert (nanos_of(parsed.start_time), nanos_of(parsed.end_time)) == (start, end)


@given(st.text(max_size=40))
def test_parse_segment_accepts_or_refuses_any_text(text: str) -> None:
    try:
        parsed = parse_segment(text)
    except ValueError:
        return
    assert 0 <= nanos_of(parsed.start_time) <= MAX_SECONDS * NANOS
    assert 0 <= nanos_of(parsed.end_time) <= MAX_SECONDS * NANOS


@pytest.mark.parametrize(
    ("time", "nanos"),
    [
        ("0", 0),
        ("12.5", 12_500_000_000),
        ("1:02.25", 62_250_000_000),
        ("90:00", 5_400_000_000_000),
        ("100:00:00.001", 360_000_001_000_000),
        # Binary floating point would make 0.30000000000000004 of the sum.
        (0.1, 100_000_000),
        (0.000000001, 1),
        (7, 7 * NANOS),
        (timedelta(milliseconds=40), 40_000_000),
        (Duration(seconds=3, nanos=4), 3 * NANOS + 4),
        ("1.500000000000000000000000000000", 1_500_000_000),
    ],
)
def test_duration_takes_every_form(time: str | float | timedelta | Duration, nanos: int) -> None:
    assert nanos_of(duration(time)) == nanos


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nan",
        "inf",
        "-1",
        "1e3",
        "1,5",
        ".5",
        "5.",
        "1:60",
        "1:60:00",
        "1:2:3:4",
        "0.0000000001",
        "1.0000000000000000000000000000000001",
        "315576000001",
        "9" * 5000,
        "9" * 12 + ":00:00",
        "٣",
        " 1",
    ],
)
def test_duration_refuses_text_that_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"seconds|range|not"):
        duration(text)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), Decimal("sNaN"), Decimal("1e-99")])
def test_duration_refuses_numbers_that_are_no_time(number: float | Decimal) -> None:
    with pytest.raises(ValueError, match=r"out of range|more digits"):
        duration(number)


@pytest.mark.parametrize("value", [None, True, Fraction(1, 2), b"5"])
def test_duration_refuses_what_is_no_time_at_all(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        duration(value)


@pytest.mark.parametrize("text", ["", "5", "5-", "-5", "1-2-3", "-5-10", "a-b", "1--2", "nan-5"])
def test_parse_segment_refuses_what_is_not_two_times(text: str) -> None:
    with pytest.raises(ValueError, match=r"not"):
        parse_segment(text)


def test_segment_leaves_an_empty_range_to_the_service() -> None:
    assert segment(5, 3) == export_pb2.Segment(
        start_time=Duration(seconds=5), end_time=Duration(seconds=3)
    )


def test_source_message_tells_videos_from_objects() -> None:
    assert source_message("vid_12").video_id == "vid_12"
    s3_object = source_message("s3://bucket/a/b c.mp4").s3_object
    assert (s3_object.bucket, s3_object.key) == ("bucket", "a/b c.mp4")
    given_one = export_pb2.Source(video_id="vid_1")
    assert source_message(given_one) is given_one


@pytest.mark.parametrize(
    "text", ["", "talk.mp4", "s3://", "s3://bucket", "s3://bucket/", "s3:///k"]
)
def test_source_message_refuses_what_is_neither(text: str) -> None:
    with pytest.raises(ValueError, match=r"not s3://bucket/key|neither"):
        source_message(text)


class Call:
    """The one side of a call that names its user."""

    def __init__(self, name: str) -> None:
        self._name = name

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ((USER_KEY, self._name),)


@pytest.mark.parametrize(
    "name", ["ann", "A", "_", "0", "anna.b@example.com", "a+b-c_d.e", "u" * 128]
)
def test_user_name_that_the_services_take_is_kept(name: str) -> None:
    assert user_name(name) == name
    assert AsyncClient(user=name).user == name


@pytest.mark.parametrize("kind", [AsyncClient, Client])
@pytest.mark.parametrize(
    "name", ["", "müller", "ann\n", "a\nb", "a b", "-x", ".x", "a..b", "a/b", "\udcff", "u" * 129]
)
def test_user_name_that_the_services_refuse_is_refused_at_once(
    name: str, kind: type[AsyncClient] | type[Client]
) -> None:
    with pytest.raises(ValueError, match="is not a user name: 1 to 128 letters"):
        kind(user=name)


@given(st.text("aZ9_.@+-/ é\n", max_size=5) | st.text(max_size=130))
def test_user_names_are_judged_as_the_services_judge_them(name: str) -> None:
    def taken(check: Callable[[], str], refusal: type[Exception]) -> bool:
        try:
            return check() == name
        except refusal:
            return False

    call = cast(ServicerContext[Any, Any], Call(name))
    here = taken(lambda: user_name(name), ValueError)
    assert here == taken(lambda: user_of(call), DomainError)
