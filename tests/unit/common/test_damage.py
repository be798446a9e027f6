"""What an owner is told of a damaged source: every place once, and not too many."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.common.damage import MAX_TIME_RANGES, damage_warning, merged_warnings, time_range
from videoexport.v1 import export_pb2 as pb

Spans = list[tuple[int, int]]
# In tenths of a second.
spans = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(1, 40)).map(lambda each: (each[0], sum(each))),
    min_size=1,
    max_size=200,
)


def warning(*tenths: tuple[int, int]) -> pb.ExportWarning:
    return damage_warning(time_range(Fraction(a, 10), Fraction(b, 10)) for a, b in tenths)


def told(each: pb.ExportWarning) -> Spans:
    """Return the ranges of a warning, in tenths of a second."""

    def tenths(nanos: int, seconds: int) -> int:
        return seconds * 10 + nanos // 10**8

    return [
        (
            tenths(item.start_time.nanos, item.start_time.seconds),
            tenths(item.end_time.nanos, item.end_time.seconds),
        )
        for item in each.time_ranges
    ]


@given(spans)
def test_every_place_is_told_in_order_and_apart(places: Spans) -> None:
    found = told(warning(*places))
    assert len(found) <= MAX_TIME_RANGES
    assert all(a < b for a, b in found)
    assert all(before[1] + 5 < after[0] for before, after in pairwise(found))
    for start, end in places:
        assert any(a <= start and end <= b for a, b in found)
    if len(places) <= MAX_TIME_RANGES:
        # Nothing is told that is not within half a second of damage.
        covered = {tenth for start, end in places for tenth in range(start - 5, end + 5)}
        assert all(tenth in covered for a, b in found for tenth in range(a, b))


def test_sentence_says_how_much_it_is() -> None:
    assert "in one place, 1.5 s in all" in warning((10, 20), (22, 25)).message
    assert "in 2 places, 1.3 s in all" in warning((10, 20), (40, 43)).message
    assert warning((10, 20)).code == "SOURCE_DAMAGED"


def test_warnings_are_told_once_each_and_places_together() -> None:
    fallback = pb.ExportWarning(code="GPU_FALLBACK", message="The CPU encodes.")
    merged = merged_warnings(warning((10, 20)), fallback, warning((40, 43), (12, 15)), fallback)
    assert [each.code for each in merged] == ["SOURCE_DAMAGED", "GPU_FALLBACK"]
    assert told(merged[0]) == [(10, 20), (40, 43)]
    assert merged_warnings() == []
    assert merged_warnings(fallback) == [fallback]
