"""Where the clock of a recording jumps: by stamps, and by bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.encoder.formats import transport_clock
from services.encoder.formats.transport_clock import PACKET, SECOND, Jumps, Stamp, find_jumps

VIDEO, AUDIO = 256, 257
FRAME = SECOND // 25
WRAP = 1 << 33


def jumps_of(*times: int, sound: dict[int, int] | None = None) -> list[int]:
    """Return which of the pictures, by their places, are after a jump.

    Args:
        sound: stamps of the sound, each right before the picture of such a place.
    """
    jumps = Jumps(VIDEO)
    for place, time in enumerate(times):
        if sound and place in sound:
            jumps.feed(Stamp(place, AUDIO, sound[place] % WRAP))
        jumps.feed(Stamp(place, VIDEO, time % WRAP))
    return jumps.found


def steady(first: int, count: int = 20) -> list[int]:
    return [first + n * FRAME for n in range(count)]


@given(st.integers(0, WRAP - 1))
def test_steady_clock_does_not_jump_wherever_it_begins_and_wraps(first: int) -> None:
    assert jumps_of(*steady(first, 100)) == []


@given(st.integers(0, WRAP - 1), st.integers(-WRAP // 2 + SECOND, WRAP // 2 - SECOND))
def test_jump_is_found_with_its_first_picture(first: int, by: int) -> None:
    jumped = jumps_of(*steady(first), *steady(first + 20 * FRAME + by))
    # As of pictures that are lost, or that come twice.
    small = -2 * FRAME < by <= 10 * SECOND - FRAME
    assert jumped == ([] if small else [20])


@given(st.integers(0, WRAP - 1))
def test_single_damaged_stamp_is_no_jump(odd: int) -> None:
    times = steady(90_000, 41)
    times[20] = odd
    assert jumps_of(*times) == []


def test_pictures_that_pause_while_the_sound_goes_on_do_not_jump() -> None:
    later = 60 * SECOND
    times = [*steady(0), *steady(later)]
    assert jumps_of(*times, sound={20: later}) == []
    assert jumps_of(*times, sound={19: 19 * FRAME}) == [20]


def packet(stream: int, time: int | None = None, *, sync: int = 0x47) -> bytes:
    """Return a packet of a transport stream, with a stamp or without."""
    head = bytes([sync, (0x40 if time is not None else 0) | stream >> 8, stream & 0xFF, 0x10])
    body = b""
    if time is not None:
        stamp = bytes(
            [
                0x21 | time >> 29 & 0x0E,
                time >> 22 & 0xFF,
                1 | time >> 14 & 0xFE,
                time >> 7 & 0xFF,
                1 | time << 1 & 0xFE,
            ]
        )
        body = b"\0\0\1\xe0\0\0\x80\x80\x05" + stamp
    return (head + body).ljust(PACKET, b"\xff")


def recording(*firsts: int, pictures: int = 50) -> bytes:
    """Return recordings one after the other: their tables, and two packets a picture."""
    content = b""
    for first in firsts:
        for number in range(pictures):
            content += packet(0) if number % 10 == 0 else b""
            content += packet(VIDEO, first + number * FRAME) + packet(VIDEO)
    return content


def jumps_in(content: bytes) -> list[int]:
    return find_jumps(lambda at, length: content[at : at + length], len(content), VIDEO)


def test_jump_is_at_the_tables_before_the_picture() -> None:
    one = recording(100 * SECOND)
    assert jumps_in(one) == []
    assert jumps_in(recording(100 * SECOND, 0, 900 * SECOND)) == [len(one), 2 * len(one)]


@pytest.mark.parametrize("extra", [b"", b"\x47\0\0", bytes(1000)])
def test_bytes_that_are_no_packets_hide_no_jump(extra: bytes) -> None:
    one, other = recording(100 * SECOND), recording(0)
    [place] = jumps_in(one + extra + other)
    assert len(one) <= place <= len(one) + len(extra)


def test_packets_of_192_bytes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = recording(100 * SECOND, 0)
    packets = [content[at : at + PACKET] for at in range(0, len(content), PACKET)]
    stamped = b"".join(b"\0\0\0\0" + each for each in packets)
    at = 4 + len(recording(0)) // PACKET * 192
    for length in (1 << 20, 1000):
        monkeypatch.setattr(transport_clock, "_READ_BYTES", length)
        assert jumps_in(stamped) == [at]


@pytest.mark.parametrize("firsts", [(900, 100), (100, 900), (900, 100, 500)])
def test_long_recording_is_looked_into_here_and_there(
    firsts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = recording(*(first * SECOND for first in firsts), pictures=1000)
    read = 0

    def read_at(at: int, length: int) -> bytes:
        nonlocal read
        read += length
        return content[at : at + length]

    monkeypatch.setattr(transport_clock, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(transport_clock, "_PLACES", 30)
    monkeypatch.setattr(transport_clock, "_PLACE_BYTES", 10 * PACKET)
    monkeypatch.setattr(transport_clock, "_READ_BYTES", 10 * PACKET)
    one = len(content) // len(firsts)
    assert find_jumps(read_at, len(content), VIDEO) == [one * n for n in range(1, len(firsts))]
    assert read < len(content) / 2


def test_what_is_no_transport_stream_has_no_jumps() -> None:
    assert jumps_in(b"") == []
    assert jumps_in(bytes(10_000)) == []
    assert jumps_in(b"\x47" * 10) == []
