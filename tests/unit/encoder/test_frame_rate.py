"""Which rate timestamps have, and whether it varies."""

from fractions import Fraction

import pytest

from services.encoder.formats.frame_rate import choose_grid, choose_rate, fits_grid

NTSC = Fraction(30000, 1001)
MILLISECOND = Fraction(1, 1000)


def stamps(rate: Fraction, count: int, tick: Fraction) -> list[int]:
    return [round(n / rate / tick) for n in range(count)]


@pytest.mark.parametrize("rate", [Fraction(25), NTSC, Fraction(24000, 1001), Fraction(25, 2)])
@pytest.mark.parametrize("tick", [MILLISECOND, Fraction(1, 90000)])
def test_constant_rate_is_found_although_timestamps_are_rounded(
    rate: Fraction, tick: Fraction
) -> None:
    assert choose_rate(stamps(rate, 200, tick), [rate], tick) == (rate, False)


def test_candidate_of_twice_the_rate_is_passed_over() -> None:
    times = stamps(Fraction(25), 100, MILLISECOND)
    assert choose_rate(times, [Fraction(50), Fraction(25)], MILLISECOND) == (Fraction(25), False)


def test_usual_rate_is_found_where_nothing_is_announced() -> None:
    times = stamps(NTSC, 300, MILLISECOND)
    assert choose_rate(times, [Fraction(90000)], MILLISECOND) == (NTSC, False)


def test_varying_rate_is_the_average() -> None:
    times = [0, 2, 3, 5, 8, 10, 13, 15, 18]
    rate, varies = choose_rate(times, [Fraction(25)], Fraction(1, 25))
    assert varies
    assert rate == Fraction(1111, 100)


def test_pauses_of_a_steady_recording_do_not_lower_its_rate() -> None:
    times = [3000 * n for n in (*range(30), *range(1829, 1859), 9000)]
    assert choose_rate(times, [Fraction(1, 3)], Fraction(1, 90000)) == (30, True)


def test_average_near_a_usual_rate_is_that_rate() -> None:
    times = [0, 20, 67, 100, 150, 166, 200]
    assert choose_rate(times, [], MILLISECOND) == (Fraction(30), True)


def test_rate_with_holes_varies_but_keeps_the_places_of_its_frames() -> None:
    times = stamps(NTSC, 100, MILLISECOND)
    assert choose_rate(times[:40] + times[50:], [NTSC], MILLISECOND) == (NTSC, True)


def test_rate_of_mostly_holes_is_the_average() -> None:
    times = stamps(Fraction(50), 100, MILLISECOND)[::3]
    assert choose_rate(times, [Fraction(50)], MILLISECOND) == (Fraction(1667, 100), True)


def test_single_frame_has_the_announced_rate() -> None:
    assert choose_rate([0], [Fraction(25)], MILLISECOND) == (Fraction(25), False)


def test_no_times_and_no_announcement_is_25() -> None:
    assert choose_rate([], [], MILLISECOND) == (Fraction(25), True)


def test_places_halfway_do_not_fit_a_grid() -> None:
    assert not fits_grid([0, 5400], Fraction(25), Fraction(1, 90000))


@pytest.mark.parametrize(
    ("first_step", "varies", "begins"),
    [
        (512, False, 0),
        (786, False, 274),  # longer by the delay of AAC, as in fragments without edit lists
        (300, False, -212),
        (1024, True, 0),
        (1100, True, 76),
    ],
)
def test_one_odd_first_frame_changes_neither_the_rate_nor_the_places_of_the_others(
    first_step: int, varies: bool, begins: int
) -> None:
    times = [0, *(first_step + 512 * n for n in range(99))]
    grid = choose_grid(times, [Fraction(2487, 100)], Fraction(1, 12800))
    assert grid == (Fraction(25), varies, begins)


def test_varying_rate_begins_with_its_first_frame() -> None:
    times = [0, 2, 3, 5, 8, 10, 13, 15, 18, 20, 23, 24]
    assert choose_grid(times, [], Fraction(1, 25))[1:] == (True, 0)


@pytest.mark.parametrize("fields", [Fraction(60000, 1001), Fraction(60)])
@pytest.mark.parametrize("phase", [0, 1])
def test_film_whose_fields_are_shown_twice_has_its_own_rate(fields: Fraction, phase: int) -> None:
    tick = Fraction(1, 90000)
    times = [round(Fraction((5 * n + phase) // 2) / fields / tick) for n in range(100)]
    assert choose_rate(times, [fields / 2], tick) == (fields * Fraction(2, 5), False)
    # Pictures of two fields and of three, but not in turn.
    mixed = times[:50] + [times[49] + round(2 * (n + 1) / fields / tick) for n in range(50)]
    rate, varies = choose_rate(mixed, [fields / 2], tick)
    assert varies
    assert rate > fields * Fraction(2, 5)
