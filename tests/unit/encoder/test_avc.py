"""H.264 parameter sets: read as they are, joined without mixing them up."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.encoder.formats.avc import Configuration, Damaged, StreamParameters, of_all, units_of

# Of x264: High at level 4.0, 1920 × 1080 of which 8 rows are cropped, four references.
HIGH = bytes.fromhex(
    "01640028ffe1001b67640028acd940780227e5c044000003000400000300c83c60c658"
    "01000668e938f2c8b0fdf8f800"
)
# The same with fields.
FIELDS = bytes.fromhex(
    "01640028ffe1001a67640028acd94078044fde0220000003002000000643e2c5b2c001000668faa3cb22c0fdf8f800"
)
# Of x264 at 320 × 240, and of the same with `sps-id=1`.
SMALL = bytes.fromhex(
    "0164000dffe100176764000dacd94141fb011000003e90000ea600f142996001000568ebe3f2c0fdf8f800"
)
SMALL_ONE = bytes.fromhex(
    "0164000dffe100176764000d4b3650507ec04400000fa40003a9803c50a658010004684afbcbfdf8f800"
)
# Baseline, whose record ends with its sets.
BASELINE = bytes.fromhex(
    "0142c01effe100186742c01edb0280f6c044000003000400000300c83c58bb8001000568ca83cb20"
)


def test_parameters_of_high_profile_are_read() -> None:
    first = Configuration.parse(HIGH).first()
    assert (first.profile, first.level, first.width, first.height) == (100, 40, 1920, 1080)
    assert (first.references, first.chroma, first.bits, first.progressive) == (4, 1, 8, True)


def test_parameters_of_baseline_are_read() -> None:
    first = Configuration.parse(BASELINE).first()
    assert (first.profile, first.level, first.chroma, first.bits) == (66, 30, 1, 8)
    assert (first.width, first.height) == (640, 480)


def test_fields_are_told_from_frames() -> None:
    first = Configuration.parse(FIELDS).first()
    assert not first.progressive
    assert (first.width, first.height) == (1920, 1080)


@pytest.mark.parametrize("record", [HIGH, FIELDS, SMALL, SMALL_ONE, BASELINE])
def test_record_is_written_as_it_was_read(record: bytes) -> None:
    assert Configuration.parse(record).to_bytes() == record


def test_sets_of_both_are_in_the_joined_record() -> None:
    both = of_all([Configuration.parse(SMALL), Configuration.parse(SMALL_ONE)])
    assert both.ids() == {0, 1}
    again = Configuration.parse(both.to_bytes())
    assert again == both
    assert len(again.sequences) == len(again.pictures) == 2


def test_level_and_constraints_of_the_joined_record_hold_for_all() -> None:
    low = replace(Configuration.parse(SMALL), constraints=0xE0, level=13)
    high = replace(Configuration.parse(SMALL_ONE), constraints=0x40, level=31)
    both = of_all([low, high])
    assert (both.level, both.constraints) == (31, 0x40)


def test_the_same_sets_are_kept_once() -> None:
    one = Configuration.parse(SMALL)
    assert of_all([one, one]) == one


def test_different_sets_of_one_id_do_not_join() -> None:
    with pytest.raises(Damaged, match="by the same number"):
        of_all([Configuration.parse(SMALL), Configuration.parse(HIGH)])


def test_different_picture_sets_of_one_id_do_not_join() -> None:
    one = Configuration.parse(SMALL)
    other = replace(one, pictures=(one.pictures[0] + b"\x80",))
    with pytest.raises(Damaged, match="by the same number"):
        of_all([one, other])


def test_other_lengths_do_not_join() -> None:
    one = Configuration.parse(SMALL)
    with pytest.raises(Damaged):
        of_all([one, replace(Configuration.parse(SMALL_ONE), length_bytes=2)])


def test_free_id_is_that_of_no_set() -> None:
    assert Configuration.parse(SMALL).free_id() == 1
    assert Configuration.parse(SMALL_ONE).free_id() == 0
    both = of_all([Configuration.parse(SMALL), Configuration.parse(SMALL_ONE)])
    assert both.free_id() == 2


def test_parameters_within_a_sample_are_known_or_not() -> None:
    small = Configuration.parse(SMALL)
    assert small.holds(small.sequences[0])
    assert small.holds(small.pictures[0])
    assert small.holds(b"\x65\x88")  # a picture
    assert not small.holds(Configuration.parse(HIGH).sequences[0])


@given(st.integers(0, len(HIGH) - 1))
def test_record_that_is_cut_off_is_refused(length: int) -> None:
    try:
        Configuration.parse(HIGH[:length]).first()
    except Damaged:
        return
    # What follows the sets is not for everybody.
    assert length >= len(HIGH) - 4


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (
        lambda: Configuration.parse(b"\1" + data).first(),
        lambda: StreamParameters.parse(data),
        lambda: list(units_of(data, 4)),
    ):
        with suppress(Damaged):
            read()


def test_units_of_a_sample() -> None:
    sample = b"\0\0\0\2\x09\xf0\0\0\0\3\x65\x01\x02"
    assert list(units_of(sample, 4)) == [b"\x09\xf0", b"\x65\x01\x02"]
    with pytest.raises(Damaged):
        list(units_of(sample[:-1], 4))


@pytest.mark.parametrize("hole", [b"\0\0\0", b"\0\0\1", b"\0\0\2", bytes(64)])
def test_unit_that_holds_what_none_does_is_damaged(hole: bytes) -> None:
    unit = b"\x41\x9a" + hole + b"\x33"
    with pytest.raises(Damaged, match="a picture is damaged"):
        list(units_of(len(unit).to_bytes(4, "big") + unit, 4))


@pytest.mark.parametrize("end", [b"", b"\0", bytes(3), b"\0\0\3", b"\0\0\3\0\0\3"])
def test_unit_may_end_in_few_zeros_and_in_what_is_broken_up(end: bytes) -> None:
    unit = b"\x41\x9a\0\0\3\1" + end
    assert list(units_of(len(unit).to_bytes(4, "big") + unit, 4)) == [unit]


def test_unit_whose_end_was_lost_is_damaged() -> None:
    unit = b"\x41\x9a\x80" + bytes(7)
    with pytest.raises(Damaged):
        list(units_of(len(unit).to_bytes(4, "big") + unit, 4))
