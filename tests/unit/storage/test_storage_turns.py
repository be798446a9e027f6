"""Requests to S3 take turns: what was given up, or takes long, keeps no other request waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from services.common.errors import DomainError, Reason
from services.storage.metrics import Operation, StorageMetrics
from services.storage.s3 import AT_ONCE, LONG_AT_ONCE, S3
from services.storage.settings import StorageSettings


@pytest.fixture
def s3() -> Iterator[S3]:
    settings = StorageSettings.model_validate(
        {"s3_endpoint": "http://127.0.0.1:1", "s3_access_key": "a", "s3_secret_key": "b"}
    )
    s3 = S3(settings, StorageMetrics(CollectorRegistry()))
    yield s3
    s3.close()


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """What requests wait for in their threads, however long nobody waits for them."""
    event = threading.Event()
    yield event
    event.set()


async def test_answers_that_trickle_take_no_turn_once_they_are_given_up(
    s3: S3, held: threading.Event
) -> None:
    trickling = [
        s3.run(Operation.HEAD_OBJECT, lambda _: held.wait(), deadline=0.2)
        for _ in range(2 * AT_ONCE)
    ]
    for error in await asyncio.gather(*trickling, return_exceptions=True):
        assert isinstance(error, DomainError)
        assert error.reason is Reason.STORAGE_UNAVAILABLE
    assert await s3.run(Operation.HEAD_OBJECT, lambda _: "here", deadline=2) == "here"


async def test_what_takes_long_leaves_turns_to_what_is_quick(s3: S3, held: threading.Event) -> None:
    long = [
        asyncio.create_task(s3.run(operation, lambda _: held.wait(), deadline=30))
        for operation in (Operation.COPY_OBJECT, Operation.COMPLETE_UPLOAD)
        for _ in range(LONG_AT_ONCE + AT_ONCE)
    ]
    await asyncio.sleep(0.1)
    assert await s3.run(Operation.HEAD_OBJECT, lambda _: "here", deadline=2) == "here"
    held.set()
    assert all(await asyncio.gather(*long))
