"""Sound that jumps, that is too loud, or lost where nobody is told, is found."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from conformance.evidence import NO_PICTURES, Evidence, Heard
from conformance.expected import Click
from conformance.heard import aim_problems, click_problems, damaged_spans, step_problems
from services.common.errors import Reason
from tests.media.frame_codes import Clip
from tests.media.recipes.recipe import Recipe
from videoexport.v1 import export_pb2 as pb

CASE = Recipe(
    name="case",
    topic="topic",
    source=Clip(frames=1),
    settings=pb.ExportSettings(loudness_lufs=-16),
    smooth=0.03,
)
HEARD = Evidence(NO_PICTURES, (), 1.0, {})


@pytest.mark.parametrize(("step", "jumps"), [(None, False), (0.03, False), (0.04, True)])
def test_sound_must_go_on_without_a_jump(step: float | None, jumps: bool) -> None:
    assert bool(step_problems(CASE, replace(HEARD, step=step))) == jumps
    assert step_problems(replace(CASE, smooth=None), replace(HEARD, step=step)) == []


@pytest.mark.parametrize(
    ("loudness", "missed", "words"),
    [
        ((-16.4, -1.0), False, None),
        ((-15.4, -1.0), False, "-15.4 LUFS instead of -16.0"),
        ((-16.0, -0.5), False, "a true peak of -0.5 dBTP"),
        ((-18.0, -1.0), True, None),
        ((-16.0, -1.0), True, "-16.0 LUFS"),
    ],
)
def test_sound_must_be_as_loud_as_asked_for_unless_that_is_told(
    loudness: tuple[float, float], missed: bool, words: str | None
) -> None:
    case = replace(CASE, codes=[Reason.LOUDNESS_MISSED] if missed else [])
    problems = aim_problems(case, replace(HEARD, loudness=loudness))
    assert (words is None) == (not problems)
    assert words is None or words in problems[0]


def test_clicks_may_be_strange_at_damage_alone() -> None:
    # Frame 12 of the source is frame 2 of the output.
    lost, places = damaged_spans(frozenset({12}), Fraction(25), [(10, 20)])
    assert [(round(a, 2), round(b, 2)) for a, b in lost] == [(0.46, 0.54)]
    assert [(round(a, 2), round(b, 2)) for a, b in places] == [(0.06, 0.14)]
    cuts = [0.0, 0.4]
    strange = [Heard(0.09, 1), Heard(0.2, 0)]
    assert click_problems([Click(0.2, 0, 0)], strange, cuts, places)[0] == []
    assert "a click at 0.090 s" in click_problems([Click(0.2, 0, 0)], strange, cuts)[0][0]
