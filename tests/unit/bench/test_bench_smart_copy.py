"""What the figure of copied exports makes of what it has measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.smart_copy import Made, figures, pictures
from tests.media.frame_codes import Clip, generate

ENCODED = Made(wall=300, cpu=600, frames=7500, copied=0, same=0, complaints=[])
COPIED = Made(wall=15, cpu=20, frames=7500, copied=7400, same=7400, complaints=[])


def met(copied: Made) -> dict[str, bool | None]:
    return {figure.name: figure.met for figure in figures(copied, ENCODED)}


def test_copy_that_is_fast_and_exact_meets_every_target() -> None:
    found = {name: value for name, value in met(COPIED).items() if value is not None}
    assert len(found) == 4
    assert all(found.values())


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"wall": 21}, "smart_copy"),
        ({"same": 7399}, "smart_copy.changed"),
        ({"copied": 0, "same": 0}, "smart_copy.changed"),
        ({"frames": 7499}, "smart_copy.frames_off"),
        ({"complaints": ["oh"]}, "smart_copy.warnings"),
    ],
)
def test_each_miss_is_told(change: dict[str, object], name: str) -> None:
    found = met(replace(COPIED, **change))  # type: ignore[arg-type]
    assert [each for each, value in found.items() if value is False] == [name]


def test_pictures_are_told_apart_by_their_bytes(tmp_path: Path) -> None:
    found = pictures(generate(Clip(frames=10, clicks=None), tmp_path))
    assert len(set(found)) == 10
