"""Where the clock of an MPEG-TS recording jumps, from its packets (ISO/IEC 13818-1). Pure.

Recordings that were joined, and broadcasts whose encoder was started anew, go on with timestamps
of another clock. Demuxers see a pause of a hundred seconds there, or none at all. A clock that
wraps after 26.5 hours, or pictures that pause while the sound goes on, are no jumps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

ReadAt = Callable[[int, int], bytes]

PACKET = 188
SECOND = 90_000
_WRAP = 1 << 33
# A stream that says nothing for longer is on another clock; FFmpeg takes as much for one.
MOST_PAUSE = 10 * SECOND
_SYNC = 0x47
_TABLE = 0  # the packets that say where everything is
# A recording is read to its end up to so many bytes, and in so many places beyond that: between
# them a jump shows that goes back, or ahead by more than the time between them varies.
WHOLE_BYTES = 512 << 20
_PLACES = 1024
_PLACE_BYTES = 256 << 10
_READ_BYTES = 2 << 20


class Stamp(NamedTuple):
    """When a packet of a stream is decoded.

    Attributes:
        begins: first byte of the transport packet, or of the tables right before it.
        time: in ticks of 90 kHz, of 33 bits.
    """

    begins: int
    stream: int
    time: int


def find_jumps(read_at: ReadAt, size: int, video: int) -> list[int]:
    """Return where another clock begins, as bytes of a recording.

    Args:
        read_at: returns so many bytes from a place, fewer at the end.
        video: PID of the pictures.
    """
    layout = _layout(read_at(0, 5 * 204))
    if layout is None:
        return []
    found: list[int] = []
    for start, end in _spans(read_at, size, video, layout):
        jumps = Jumps(video)
        for stamp in _stamps(read_at, start, end, video, layout):
            jumps.feed(stamp)
        found += jumps.found
    return found


@dataclass(slots=True)
class Jumps:
    """Finds jumps in the stamps of a recording, in their order.

    Attributes:
        found: where another clock begins.
    """

    video: int
    found: list[int] = field(default_factory=list)
    _last: int | None = None
    _before_last: int | None = None
    _others: int | None = None
    # The first stamp that does not fit, until the next one says whether it was damaged.
    _odd: Stamp | None = None

    def feed(self, stamp: Stamp) -> None:
        """Take the next stamp."""
        if stamp.stream != self.video:
            self._others = stamp.time
            return
        odd, last = self._odd, self._last
        self._odd = None
        if last is not None and odd is not None:
            behind = _later(stamp.time, last)
            if behind <= 0 or abs(_later(stamp.time, odd.time)) < behind:
                self.found.append(odd.begins)
        elif last is not None and self._jumps(stamp, last):
            self._odd = stamp
            return
        self._before_last, self._last = last, stamp.time

    def _jumps(self, stamp: Stamp, last: int) -> bool:
        step = _later(stamp.time, last)
        if step < 0:
            # Or the one before is damaged, and this one follows those before it.
            before = self._before_last
            return before is None or _later(stamp.time, before) <= 0
        # The sound has gone on meanwhile: the pictures only pause.
        paused = self._others is not None and abs(_later(stamp.time, self._others)) < MOST_PAUSE
        return step > MOST_PAUSE and not paused


def _later(time: int, than: int) -> int:
    """Return by how much a time of 33 bits is later; they may have wrapped in between."""
    return (time - than + _WRAP // 2) % _WRAP - _WRAP // 2


def _layout(head: bytes) -> tuple[int, int] | None:
    """Return where the first packet begins, and the distance of packets."""
    for distance in (PACKET, 192, 204):
        for first in range(min(distance, len(head))):
            if all(
                head[first + n * distance : first + n * distance + 1] == b"\x47" for n in range(4)
            ):
                return first, distance
    return None


def _spans(
    read_at: ReadAt, size: int, video: int, layout: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Yield what of a recording is looked through."""
    if size <= WHOLE_BYTES:
        yield 0, size
        return
    step = size // _PLACES
    times: list[tuple[int, int]] = []
    for place in range(0, size - _PLACE_BYTES, step):
        stamps = _stamps(read_at, place, place + _PLACE_BYTES, video, layout)
        first = next((stamp.time for stamp in stamps if stamp.stream == video), None)
        if first is not None:
            times.append((place, first))
    steps = sorted(_later(b, a) for (_, a), (_, b) in pairwise(times))
    most = 3 * steps[len(steps) // 2] + MOST_PAUSE if steps else 0
    start: int | None = None
    for (place, time), (_, later) in pairwise(times):
        # Neighbours are looked through at once, so that no jump is found twice.
        if not 0 <= _later(later, time) <= most:
            start = place if start is None else start
        elif start is not None:
            yield start, place + _PLACE_BYTES
            start = None
    if start is not None:
        yield start, size


def _stamps(
    read_at: ReadAt, start: int, end: int, video: int, layout: tuple[int, int]
) -> Iterator[Stamp]:
    """Yield the stamps of a part of a recording."""
    first, distance = layout
    # Back to where a packet begins.
    at = first + max(0, start - first) // distance * distance
    table: int | None = None
    rest = b""
    while at + len(rest) < end:
        data = rest + read_at(at + len(rest), _READ_BYTES)
        if len(data) < distance:
            return
        place = 0
        while place + PACKET <= len(data):
            if data[place] != _SYNC:
                # Bytes are lost or damaged: on to the next two packets in a row.
                place = _resynced(data, place + 1, distance)
                continue
            second = data[place + 1]
            stream = (second & 0x1F) << 8 | data[place + 2]
            if stream == _TABLE:
                table = at + place
            elif second & 0x40 and (time := _time(data, place)) is not None:
                yield Stamp(at + place if table is None else table, stream, time)
            if stream == video:
                table = None
            place += distance
        rest = data[place:]
        at += len(data) - len(rest)


def _resynced(data: bytes, place: int, distance: int) -> int:
    while (place := data.find(b"\x47", place)) >= 0:
        after = place + distance
        if after >= len(data) or data[after] == _SYNC:
            return place
        place += 1
    return len(data)


def _time(data: bytes, place: int) -> int | None:
    """Return when what begins in a packet is decoded; None where it does not say."""
    control = data[place + 3] >> 4 & 3
    if not control & 1:
        return None
    body = place + 4 + (1 + data[place + 4] if control & 2 else 0)
    head = data[body : min(body + 19, place + PACKET)]
    if len(head) < 14 or head[:3] != b"\0\0\1" or head[6] >> 6 != 2 or not head[7] & 0x80:
        return None
    stamp = head[14:19] if head[7] & 0x40 and len(head) == 19 else head[9:14]
    return (
        (stamp[0] & 0x0E) << 29
        | stamp[1] << 22
        | (stamp[2] & 0xFE) << 14
        | stamp[3] << 7
        | stamp[4] >> 1
    )
