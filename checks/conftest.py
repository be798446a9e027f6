"""What the checks have to say beside pass or fail, shown before the closing line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from checks.tool import REMARKS


@pytest.fixture
def remark(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Add a line to what is shown at the end."""
    return request.config.stash.setdefault(REMARKS, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the remarks, and how many checks this machine could not do."""
    for text in terminalreporter.config.stash.get(REMARKS, []):
        terminalreporter.write_line(text)
    skipped = len(terminalreporter.stats.get("skipped", []))
    terminalreporter.write_line(f"checks not run here: {skipped}")
