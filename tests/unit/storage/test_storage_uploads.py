"""What was announced is compared with what S3 lists, part by part."""

from __future__ import annotations

import hashlib

import pytest

from services.common.errors import DomainError, Reason
from services.storage.keys import Location, Purpose
from services.storage.requests import PendingUpload, SentUpload
from services.storage.uploads import check_parts, joined_etag

A, B, C = (hashlib.md5(letter.encode()).hexdigest() for letter in "abc")
PENDING = PendingUpload(Location("own", "key", "video", Purpose.SOURCE), "upload")


def sent(*md5s: str, size: int) -> SentUpload:
    return SentUpload(PENDING, md5s, size, "")


def message_of(announced: SentUpload, stored: dict[int, dict[str, int]]) -> str:
    with pytest.raises(DomainError) as caught:
        check_parts(announced, stored)
    assert caught.value.reason is Reason.UPLOAD_MISMATCH
    return caught.value.message


def test_parts_as_announced_pass() -> None:
    check_parts(sent(A, B, size=15), {1: {A: 10}, 2: {B: 5}})


def test_part_sent_twice_counts_with_the_announced_content() -> None:
    check_parts(sent(A, B, size=15), {1: {C: 99, A: 10}, 2: {B: 5, C: 7}})


def test_missing_and_different_parts_are_named() -> None:
    message = message_of(sent(A, B, C, size=15), {1: {C: 10}})
    assert "not stored: parts 2, 3" in message
    assert "another MD5: part 1" in message


def test_many_missing_parts_are_counted() -> None:
    assert "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 90 more" in message_of(sent(*[A] * 100, size=1), {})


def test_sizes_must_add_up() -> None:
    message = message_of(sent(A, B, size=16), {1: {A: 10}, 2: {B: 5}})
    assert "15 bytes, 16 were announced" in message


def test_joined_etag_is_the_digest_of_digests() -> None:
    # As `aws s3api complete-multipart-upload` shows it for parts "a" and "b".
    expected = hashlib.md5(hashlib.md5(b"a").digest() + hashlib.md5(b"b").digest()).hexdigest()
    assert joined_etag(sent(A, B, size=2)) == f"{expected}-2"
