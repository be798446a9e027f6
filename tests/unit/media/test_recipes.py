"""The table of the corpus, and the files that its recipes make."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import Reason
from tests.media.frame_codes import Clip, read_frame_numbers
from tests.media.recipes import RECIPES, chosen
from tests.media.recipes.boxes import box, edited
from tests.media.recipes.making import make
from tests.media.recipes.recipe import Changed, Remade

TINY = Clip(frames=4, width=64, height=36, clicks=None)


def test_every_case_has_a_name_of_its_own() -> None:
    names = [recipe.name for recipe in RECIPES]
    assert len(names) == len(set(names))
    assert not {recipe.topic for recipe in RECIPES} & set(names)


def test_every_case_says_what_must_come_out() -> None:
    for recipe in RECIPES:
        assert recipe.looks is not None or recipe.clip.frames
        assert recipe.refused or min(recipe.output_size) > 0
        assert recipe.refused is None or recipe.refused.reason in Reason.__members__
        # What is compared by sound has a clip that clicks.
        assert not (recipe.sound and recipe.clicks) or recipe.clip.clicks or recipe.refused
        assert set(recipe.codes) <= set(Reason.__members__)


def test_cases_are_chosen_by_topic_and_by_the_beginning_of_their_names() -> None:
    assert chosen([]) == RECIPES
    assert {recipe.topic for recipe in chosen(["geometry"])} == {"geometry"}
    assert len(chosen(["turned 90"])) > 1
    assert len(chosen(["geometry", "turned 90"])) == len(chosen(["geometry"]))
    for nothing in ("", "no such case"):
        with pytest.raises(KeyError):
            chosen([nothing])


def test_box_is_replaced_and_all_around_it_grows() -> None:
    inner = box(b"tkhd", b"abc")
    content = box(b"free", b"") + box(b"moov", box(b"trak", inner)) + box(b"mdat", b"xyz")
    changed = edited(content, (b"moov", b"trak", b"tkhd"), lambda old: old + box(b"clap", b"1"))
    wanted = box(b"moov", box(b"trak", inner + box(b"clap", b"1")))
    assert changed == box(b"free", b"") + wanted + box(b"mdat", b"xyz")
    with pytest.raises(ValueError, match="no box"):
        edited(content, (b"moov", b"mvhd"), lambda old: old)


def test_source_is_made_of_others(tmp_path: Path) -> None:
    mirrored = Remade(of=(TINY,), arguments=("-vf", "hflip,hflip", "-qp", "0"))
    source = Changed(of=(mirrored, TINY), how=lambda one, _other: one + bytes(8))
    made = make(source, tmp_path / "clips", tmp_path)
    assert made.read_bytes().endswith(bytes(8))
    assert read_frame_numbers(made) == [0, 1, 2, 3]


def test_source_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"cannot be made: .*nonsense"):
        make(Remade(of=(TINY,), arguments=("-vf", "nonsense")), tmp_path / "clips", tmp_path)
