"""Which frames of an output are compared with its source."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest

from services.api.measuring import compared_spans

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("frames", [1, 750, 1500])
def test_short_output_is_compared_whole(frames: int) -> None:
    [span] = compared_spans(frames, Fraction(25))
    assert (span.start, span.end) == (0, frames)


@pytest.mark.parametrize("rate", [Fraction(1), Fraction(25), NTSC, Fraction(60)])
@pytest.mark.parametrize("seconds", [61, 600, 86_400])
def test_long_output_is_compared_in_a_minute_of_places(rate: Fraction, seconds: int) -> None:
    frames = round(seconds * rate)
    spans = compared_spans(frames, rate)
    assert len(spans) == 12
    assert (spans[0].start, spans[-1].end) == (0, frames)
    assert all(before.end <= after.start for before, after in pairwise(spans))
    compared = sum(span.frame_count for span in spans)
    assert compared == pytest.approx(float(60 * rate), abs=12)
    gaps = [after.start - before.end for before, after in pairwise(spans)]
    assert max(gaps) - min(gaps) <= 1
