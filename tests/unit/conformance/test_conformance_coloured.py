"""Patches of an output that look otherwise are found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance.coloured import Coloured, patch_problems, worst_patch
from tests.media.colour import HDR_WHITE, Array, Tags, coded
from tests.media.patches import SRGB
from tests.media.recipes.recipe import Looks

LOOKS = Looks(light=SRGB)
NITS = np.array([0, 1, 10, 61, 203, 400, 1000.0])
SCALE = Looks(light=np.repeat(NITS[:, None] / HDR_WHITE, 3, axis=1), white=(0.82, 0.85))
# As they are up to 61 nits, and compressed above.
SIGNALS = np.append((NITS[:4] / HDR_WHITE) ** (1 / 2.4), [0.83, 0.9, 0.99])


def coloured(light: Array, **changes: Any) -> Coloured:
    """What is read where light came out as it must, but for the changes."""
    found = Coloured(coded(light, Tags(), 8).astype(float), Tags(), (1, 1, 1, 0), ())
    return replace(found, **changes)


def greys(*changed: tuple[int, float]) -> Coloured:
    """A scale of greys, with some signals changed."""
    signals = SIGNALS.copy()
    for place, signal in changed:
        signals[place] = signal
    values = np.stack([16 + 219 * signals, *[np.full(signals.size, 128.0)] * 2], -1)
    return Coloured(values, Tags(), (1, 1, 1, 0), ())


def test_right_patches_pass() -> None:
    assert patch_problems(LOOKS, coloured(SRGB)) == []
    assert worst_patch(LOOKS, coloured(SRGB)) < 1
    assert patch_problems(SCALE, greys()) == []


@pytest.mark.parametrize("place", range(24))
def test_colour_of_each_patch_counts(place: int) -> None:
    light = SRGB.copy()
    light[place] = light[place] * 0.6 + 0.1
    assert worst_patch(LOOKS, coloured(light)) > 2
    others = replace(LOOKS, alike=np.s_[place + 1 :] if place < 12 else np.s_[:place])
    assert worst_patch(others, coloured(light)) < 1


VALUES = coloured(SRGB).values


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"of_hdr": ("mdcv",)}, "says mdcv"),
        ({"boxed": (9, 1, 1, 0)}, "by the container"),
        ({"boxed": (1, 1, 1, 1)}, "by the container"),
        ({"values": VALUES + np.array([0, 0.8, 0])}, "greys are off by 0.8"),
        ({"values": VALUES + np.array([20, 0, 0])}, "black is off"),
    ],
)
def test_what_is_wrong_beside_colours_is_found(changes: dict[str, Any], words: str) -> None:
    problems = patch_problems(LOOKS, coloured(SRGB, **changes))
    assert any(words in problem for problem in problems), problems


def test_hues_must_stay_where_colours_may_be_paler() -> None:
    looks = Looks(light=SRGB, alike=slice(6, 24), hues=slice(0, 6))
    paler = SRGB.copy()
    paler[:6] = paler[:6] * 0.9
    assert patch_problems(looks, coloured(paler)) == []
    other = SRGB.copy()
    other[0] = [0.8, 0.2, 0]
    assert "hues are turned" in patch_problems(looks, coloured(other))[0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ((4, 0.88), "203 nits have the signal 0.880"),
        ((6, 0.93), "1000 nits have the signal 0.930"),
        ((2, 0.31), "mid tones are off"),
        ((5, 0.82), "of two greys the lighter one is not lighter"),
    ],
)
def test_scale_of_greys_must_be_mapped_as_it_should(changed: tuple[int, float], words: str) -> None:
    problems = patch_problems(SCALE, greys(changed))
    assert any(words in problem for problem in problems), problems
