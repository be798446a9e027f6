"""What is said of folders whose modes change for the system user that runs Postgres."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from services.local import permissions, postgres
from services.local.credentials import Credentials
from services.local.ports import PortBook
from services.local.postgres import PostgresPart


async def test_folder_that_everybody_may_enter_is_told_as_such(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = scratch / "opened"
    (data / "postgres" / "data").mkdir(parents=True)
    data.chmod(0o700)
    programs = scratch / "package" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(permissions, "ensure_system_user", lambda _: None)
    monkeypatch.setattr(permissions, "give", lambda *_: None)
    monkeypatch.setattr(postgres, "postgres_programs", lambda: programs)
    said: list[str] = []
    part = PostgresPart(
        data / "postgres",
        PortBook(data / "ports.json"),
        data / "logs",
        Credentials("access", "secret", "password"),
        fsync=False,
        notify=said.append,
    )
    await part.prepare()
    assert stat.S_IMODE(data.stat().st_mode) == 0o701
    assert said == [
        f"everybody can now pass through {data}, as the system user videoexport-postgres must"
    ]
