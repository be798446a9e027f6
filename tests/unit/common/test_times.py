"""Durations as people say them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.common.times import in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (90, "1.5 minutes"),
        (3600, "1 hour"),
        (86_400, "24 hours"),
    ],
)
def test_duration_in_words(seconds: float, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words
