"""The clock that everything in a campaign is told by."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the time of this machine, which is also that of its Postgres."""
    return datetime.now(UTC)
