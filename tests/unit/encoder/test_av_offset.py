"""Sound that is off its pictures is found wherever in the file it is."""

from __future__ import annotations

from fractions import Fraction

import pytest

from services.encoder.inspection.av_offset import Shown, largest_av_offset

TICK, SAMPLE = Fraction(1, 12_800), Fraction(1, 48_000)
FRAME, PACKET = 512, 1024


def largest(shown: Shown, heard: Shown) -> Fraction | None:
    return largest_av_offset(shown, len(shown.starts) * FRAME * TICK, heard)


def pictures(*starts: int) -> Shown:
    return Shown(TICK, list(starts), [FRAME] * len(starts))


def sound(*starts: int) -> Shown:
    return Shown(SAMPLE, list(starts), [PACKET] * len(starts))


STEADY = pictures(*range(0, 100 * FRAME, FRAME))
# Primed by one packet, as FFmpeg's AAC is.
HEARD = sound(*range(-PACKET, 189 * PACKET, PACKET))


def test_steady_file_has_no_offset() -> None:
    assert largest(STEADY, HEARD) == 0


def test_sound_that_begins_late_is_off_everywhere() -> None:
    late = sound(*range(480, 189 * PACKET, PACKET))
    assert largest(STEADY, late) == Fraction(1, 100)


@pytest.mark.parametrize("place", [1, 50, 99])
def test_single_frame_that_is_late_is_found(place: int) -> None:
    starts = list(STEADY.starts)
    starts[place] += 128
    assert largest(pictures(*starts), HEARD) == Fraction(1, 100)


def test_gap_in_the_sound_is_found_after_it() -> None:
    starts = [start + (960 if start > 90 * PACKET else 0) for start in HEARD.starts]
    assert largest(STEADY, sound(*starts)) == Fraction(960, 48_000)


def test_gap_in_both_does_not_put_them_apart() -> None:
    shown = [start + (FRAME if start >= 50 * FRAME else 0) for start in STEADY.starts]
    # The gap lies where the fiftieth frame is due, at two seconds.
    heard = [start + (1920 if start >= 96_000 - PACKET else 0) for start in HEARD.starts]
    assert largest(pictures(*shown), sound(*heard)) == 0


def test_drift_is_found_at_its_end() -> None:
    heard = [start + number for number, start in enumerate(HEARD.starts)]
    found = largest(STEADY, sound(*heard))
    assert found is not None
    assert float(found) == pytest.approx(187 / 48_000, abs=2 / 48_000)


def test_nothing_is_compared_without_sound_or_without_pictures() -> None:
    assert largest(STEADY, sound()) is None
    assert largest(pictures(), HEARD) is None
