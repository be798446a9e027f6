"""The demonstration never writes over the video that it was given."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from services.local import demo


@pytest.mark.parametrize("same_as", ["name", "symlink_to", "hardlink_to"])
async def test_output_that_is_the_source_is_refused_before_anything_starts(
    same_as: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started: list[Path] = []
    monkeypatch.setattr(demo, "LocalCluster", started.append)
    monkeypatch.setattr(demo, "stop_on_signal", lambda _: [])
    source = output = tmp_path / "talk.mp4"
    source.write_bytes(b"a person's own")
    if same_as != "name":
        output = tmp_path / "out.mp4"
        getattr(output, same_as)(source)
    arguments = Namespace(source=source, output=output, data=tmp_path / "data", edit=False)
    assert await demo.run(arguments) == 2
    assert capsys.readouterr().err == f"--output: {output} is the source.\n"
    assert started == []
    assert source.read_bytes() == b"a person's own"


async def test_edited_output_that_is_the_source_is_refused_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[Path] = []
    monkeypatch.setattr(demo, "LocalCluster", started.append)
    monkeypatch.setattr(demo, "stop_on_signal", lambda _: [])
    source = tmp_path / "talk-edited.mp4"
    source.write_bytes(b"a person's own")
    output = tmp_path / "talk.mp4"
    arguments = Namespace(source=source, output=output, data=tmp_path / "data", edit=True)
    assert await demo.run(arguments) == 2
    assert capsys.readouterr().err == f"--output: {source} is the source.\n"
    assert started == []
    assert source.read_bytes() == b"a person's own"
