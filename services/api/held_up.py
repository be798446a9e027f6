"""What a loop says while something keeps it from its work."""

from __future__ import annotations

import structlog

log = structlog.get_logger()


class HeldUp:
    """Logs that work stops, whenever the problem is another one, and that it goes on; once each.

    A loop meets the same problem with every try, several times a second.

    Args:
        stops, goes_on: fixed texts of the log.
        fields: that go with both.

    Attributes:
        problem: what keeps it from its work; None while nothing does.
    """

    def __init__(self, stops: str, goes_on: str, **fields: str) -> None:
        self._stops, self._goes_on, self._fields = stops, goes_on, fields
        self.problem: str | None = None

    def report(self, problem: str | None) -> None:
        """Take what a try has met; None where it met nothing."""
        if problem == self.problem:
            return
        self.problem = problem
        if problem is None:
            log.info(self._goes_on, **self._fields)
        else:
            log.warning(self._stops, problem=problem, **self._fields)
