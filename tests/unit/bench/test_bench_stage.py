"""A second run of the measurements leaves the first one's data alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import __main__ as bench
from services.local.supervisor import take_directory


def test_second_run_is_refused_before_it_removes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "BUILD", tmp_path)
    monkeypatch.setattr("sys.argv", ["bench", "overhead"])
    data = tmp_path / "bench" / "cluster" / "postgres"
    with take_directory(tmp_path / "bench"):
        data.mkdir(parents=True)
        assert bench.main() == 1
    assert capsys.readouterr().err.startswith("the cluster did not start: a cluster runs on ")
    assert data.exists()
