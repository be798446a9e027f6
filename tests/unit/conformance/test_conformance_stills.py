"""Posters and sprites that are of other frames than they must be are found."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from conformance.stills import StillsSeen, Tile, still_problems
from tests.media.corner_marks import UPRIGHT, Corners
from tests.media.frame_codes import Clip
from tests.media.read_back import Seen
from tests.media.recipes.recipe import Recipe
from videoexport.v1 import export_pb2 as pb

GOOD = Corners(UPRIGHT, (0.5, 0.3, 0.9, 0.2))
CASE = Recipe(
    name="case",
    topic="topic",
    source=Clip(frames=100),
    settings=pb.ExportSettings(sprites=pb.SpriteSettings(interval=Duration(seconds=1))),
    poster=(50, 78),
    tiles=(24, 59, 78),
)
TILES = tuple(
    Tile(Fraction(start), Fraction(end), Seen(number, GOOD))
    for start, end, number in ((0, 1, 24), (1, 2, 59), (2, "2.88", 78))
)
RIGHT = StillsSeen(Seen(78, GOOD), Fraction(2), TILES)


def test_right_stills_pass() -> None:
    assert still_problems(CASE, RIGHT, 72) == []
    assert still_problems(replace(CASE, poster=None, tiles=()), StillsSeen(), 72) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"poster": None, "poster_time": None}, "poster is of frame and number None"),
        ({"poster": Seen(79, GOOD)}, r"(50, 79)"),
        ({"poster_time": Fraction(1)}, r"(25, 78)"),
        ({"poster": Seen(78, Corners("mirrored", (0.0,)))}, "not upright"),
        ({"poster": Seen(78, Corners(UPRIGHT, (3.5,)))}, "off by ΔE2000 3.5"),
        ({"tiles": TILES[:2]}, "the sprites show [24, 59]"),
        ({"tiles": (TILES[1], TILES[0], TILES[2])}, "the sprites show [59, 24, 78]"),
        ({"tiles": (*TILES[:2], replace(TILES[2], end=Fraction(3)))}, "are shown at"),
        ({"tiles": (*TILES[:2], replace(TILES[2], start=Fraction(1)))}, "are shown at"),
    ],
)
def test_stills_that_are_wrong_are_found(changes: dict[str, Any], words: str) -> None:
    problems = still_problems(CASE, replace(RIGHT, **changes), 72)
    assert any(words in problem for problem in problems), problems
