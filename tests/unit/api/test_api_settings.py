"""Settings of the API that must fit each other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.api.settings import ApiSettings


def settings(**changes: Any) -> ApiSettings:
    needed = {"database_url": "postgresql://h/d", "nats_url": "n", "storage_address": "s:1"}
    return ApiSettings(**{**needed, **changes})


@pytest.mark.parametrize(
    ("given", "loops"),
    [
        ({}, 10),
        ({"database_pool_size": 7}, 3),
        ({"database_pool_size": 2}, 1),
        ({"database_pool_size": 8, "database_loop_connections": 5}, 5),
    ],
)
def test_loops_and_callers_share_the_connections(given: dict[str, int], loops: int) -> None:
    assert settings(**given).loop_connections == loops


def test_loops_that_leave_callers_no_connection_are_refused() -> None:
    with pytest.raises(ValidationError, match="less than database_pool_size"):
        settings(database_pool_size=4, database_loop_connections=4)
