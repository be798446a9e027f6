"""`delete` tries every export that it is given, whatever becomes of the others."""

from __future__ import annotations

import json

import pytest

from videoexport.cli.app import run
from videoexport.client import AsyncClient, Refused, ServiceUnreachable

FAILURES = {
    "exp_refused": Refused("EXPORT_NOT_FOUND", "You have no such export."),
    "exp_silent": ServiceUnreachable("The database cannot be reached."),
}


@pytest.fixture(autouse=True)
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The exports that were to be deleted, in order."""
    asked: list[str] = []

    async def delete(_: AsyncClient, export_id: str) -> None:
        asked.append(export_id)
        if export_id in FAILURES:
            raise FAILURES[export_id]

    monkeypatch.setattr(AsyncClient, "delete", delete)
    monkeypatch.setenv("VIDEOEXPORT_USER", "ann")
    return asked


@pytest.mark.parametrize(
    ("export_ids", "status", "told"),
    [
        (["exp_1", "exp_2", "exp_1"], 0, []),
        (["exp_1", "exp_refused", "exp_2"], 3, ["You have no such export."]),
        (["exp_silent", "exp_1"], 5, ["The database cannot be reached."]),
        # The worst makes the status, wherever it stands.
        (
            ["exp_silent", "exp_refused", "exp_1"],
            5,
            ["You have no such export.", "The database cannot be reached."],
        ),
    ],
)
def test_all_are_tried_and_each_failure_is_one_sentence(
    export_ids: list[str],
    status: int,
    told: list[str],
    tried: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["delete", *export_ids]) == status
    assert tried == list(dict.fromkeys(export_ids))
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"Export {each} is deleted." for each in tried if each[4] in "12"]
    assert err.splitlines() == [f"videoexport: {sentence}" for sentence in told]


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["delete", "exp_1", "exp_silent", "exp_2", "--json"]) == 5
    assert json.loads(capsys.readouterr().out) == {}
