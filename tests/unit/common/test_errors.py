"""The table of errors, and its copy for people in docs/errors.md."""

from __future__ import annotations

from datetime import timedelta
from itertools import takewhile
from pathlib import Path

import pytest
from grpc import StatusCode

from services.common.errors import (
    RETRY_AFTER,
    TABLE,
    DomainError,
    Reason,
    Violation,
    invalid_request,
)

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "errors.md"


def documented() -> list[tuple[str, ...]]:
    """Return the rows of the document's table, without its head."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    head = lines.index("| reason | gRPC status | retryable | meaning |")
    table = takewhile(lambda line: line.startswith("|"), lines[head + 2 :])
    return [tuple(cell.strip(" `") for cell in line.strip("|").split("|")) for line in table]


def test_every_reason_has_a_row() -> None:
    assert set(TABLE) == set(Reason)


def test_document_has_the_rows_of_the_table_in_their_order() -> None:
    expected = [
        (reason.value, info.status.name, "yes" if info.retryable else "no", info.meaning)
        for reason in Reason
        for info in [TABLE[reason]]
    ]
    assert documented() == expected


@pytest.mark.parametrize("reason", Reason)
def test_reason_is_a_name_that_error_info_allows(reason: Reason) -> None:
    # google.rpc.ErrorInfo: [A-Z][A-Z0-9_]+[A-Z0-9], at most 63 characters.
    assert reason.value == reason.name
    assert reason.name.isascii()
    assert reason.name.isupper()
    assert len(reason.name) <= 63


@pytest.mark.parametrize("reason", Reason)
def test_what_the_caller_must_change_is_not_retryable(reason: Reason) -> None:
    callers_own = {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.NOT_FOUND,
        StatusCode.ALREADY_EXISTS,
        StatusCode.PERMISSION_DENIED,
        StatusCode.UNAUTHENTICATED,
    }
    passing = {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED}
    info = TABLE[reason]
    assert not (info.status in callers_own and info.retryable)
    assert not (info.status in passing and not info.retryable)


@pytest.mark.parametrize("reason", Reason)
def test_meaning_is_one_sentence(reason: Reason) -> None:
    meaning = TABLE[reason].meaning
    assert meaning.endswith(".")
    assert "|" not in meaning
    assert len(meaning) < 90


def test_domain_error_takes_status_and_retryability_from_its_row() -> None:
    error = DomainError(Reason.QUEUE_FULL, "The queue is full.")
    assert error.status is StatusCode.RESOURCE_EXHAUSTED
    assert error.retryable
    assert not DomainError(Reason.INVALID_SOURCE, "…").retryable
    assert str(error) == error.message == "The queue is full."


@pytest.mark.parametrize("reason", Reason)
def test_what_passes_by_itself_says_when_to_try_again(reason: Reason) -> None:
    passing = {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED}
    soon = RETRY_AFTER if TABLE[reason].status in passing else None
    assert DomainError(reason, "…").retry_after == soon
    known = timedelta(minutes=7)
    assert DomainError(reason, "…", retry_after=known).retry_after == known


def test_invalid_request_names_the_first_violation_and_counts_the_rest() -> None:
    one = invalid_request([Violation("a", "is wrong")])
    assert (one.reason, one.message) == (Reason.INVALID_REQUEST, "a: is wrong")
    two = invalid_request([Violation("a", "is wrong"), Violation("b.c", "too")])
    assert two.message == "a: is wrong (and 1 more)"
    assert [item.field for item in two.violations] == ["a", "b.c"]
