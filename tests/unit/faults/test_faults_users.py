"""Users: what no answer may be is written down, although calls go on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from faults import users
from faults.journal import Journal
from faults.users import User
from videoexport.client import ServiceUnreachable


async def test_answer_that_says_internal_is_a_violation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "PAUSE_S", 0.0)
    journal = Journal(tmp_path / "journal")
    nowhere = SimpleNamespace(apis=[], address="")
    user = User("ada", nowhere, journal, tmp_path)  # type: ignore[arg-type]
    answers = iter(["INTERNAL", "QUEUE_UNAVAILABLE"])

    async def call() -> str:
        for reason in answers:
            error = ServiceUnreachable("away")
            error.reason = reason
            raise error
        return "done"

    assert await user.repeat(call) == "done"
    journal.close()
    [found] = journal.violations
    assert (found.rule, found.subject) == ("no answer is INTERNAL", "ada")
