"""H.264 as MP4 keeps it: parameter sets, their record, and the units of a sample. Pure.

Names and order of syntax elements are those of ITU-T H.264, §7.3; the record is the
AVCDecoderConfigurationRecord of ISO/IEC 14496-15, §5.3.3.1. Both are read only as far as it is
needed to copy pictures and to encode others that go with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

IDR, SPS, PPS, SPS_EXTENSION = 5, 7, 8, 13
BASELINE, MAIN, HIGH = 66, 77, 100
# Profiles whose parameters say how colours are sampled; the others are 4:2:0 of 8 bits.
_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
# Bits of seq_parameter_set_id: sets can have as many ids.
MAX_SPS_ID = 31


# What units never hold: encoders break it up, so that it can begin a unit in a stream (§7.4.1).
_NEVER_INSIDE = (b"\0\0\0", b"\0\0\1", b"\0\0\2")
# Zeros that some writers leave at the end, of what begins the next unit in a stream.
_MOST_ZEROS_AFTER = 3


class Damaged(Exception):
    """A record, a parameter set or a sample is not what it should be."""


@dataclass(frozen=True, slots=True)
class StreamParameters:
    """What a sequence parameter set says.

    Attributes:
        set_id: its own id.
        chroma: 1 for 4:2:0.
        bits: per component, of luma or chroma, whichever has more.
        references: frames that are kept for others to be predicted from.
        progressive: whether there are frames alone, no fields.
        width, height: of the pictures that are shown.
    """

    set_id: int
    profile: int
    level: int
    chroma: int
    bits: int
    references: int
    progressive: bool
    width: int
    height: int

    @classmethod
    def parse(cls, unit: bytes) -> Self:
        """Read a set.

        Raises:
            Damaged: it ends too early.
        """
        bits = _Bits(unit[1:])
        profile, _, level = bits.take(8), bits.take(8), bits.take(8)
        set_id = bits.unsigned()
        chroma, depth, separate = 1, 8, 0
        if profile in _WITH_CHROMA:
            chroma = bits.unsigned()
            separate = bits.take(1) if chroma == 3 else 0
            depth = 8 + max(bits.unsigned(), bits.unsigned())
            bits.take(1)  # qpprime_y_zero_transform_bypass_flag
            if bits.take(1):
                bits.skip_scaling_lists(8 if chroma != 3 else 12)
        bits.unsigned()  # log2_max_frame_num_minus4
        order = bits.unsigned()  # pic_order_cnt_type
        if order == 0:
            bits.unsigned()
        elif order == 1:
            bits.take(1)
            bits.unsigned()  # offsets are signed, of the same length
            bits.unsigned()
            for _ in range(bits.unsigned()):
                bits.unsigned()
        references = bits.unsigned()
        bits.take(1)  # gaps_in_frame_num_value_allowed_flag
        across, down = bits.unsigned() + 1, bits.unsigned() + 1
        progressive = bits.take(1) == 1
        if not progressive:
            bits.take(1)
        bits.take(1)  # direct_8x8_inference_flag
        left = right = above = below = 0
        if bits.take(1):
            left, right, above, below = (bits.unsigned() for _ in range(4))
        sampled = 0 if separate else chroma
        wide = 2 if sampled in (1, 2) else 1
        high = (2 if sampled == 1 else 1) * (1 if progressive else 2)
        return cls(
            set_id=set_id,
            profile=profile,
            level=level,
            chroma=chroma,
            bits=depth,
            references=references,
            progressive=progressive,
            width=across * 16 - wide * (left + right),
            height=down * (16 if progressive else 32) - high * (above + below),
        )


@dataclass(frozen=True, slots=True)
class Configuration:
    """The parameter sets of a stream.

    Attributes:
        profile, constraints, level: that a decoder must have for all of it.
        length_bytes: of the length before each unit of a sample.
        sequences, pictures: the sets, without their lengths.
        rest: what follows them for some profiles.
    """

    profile: int
    constraints: int
    level: int
    length_bytes: int
    sequences: tuple[bytes, ...]
    pictures: tuple[bytes, ...]
    rest: bytes

    @classmethod
    def parse(cls, record: bytes) -> Self:
        """Read a record.

        Raises:
            Damaged: it is none, or ends too early.
        """
        if len(record) < 7 or record[0] != 1:
            raise Damaged("the stream's parameters are not in front of it")
        sequences, place = _units(record, 6, record[5] & 0x1F)
        if place >= len(record):
            raise Damaged("the stream's parameters are cut off")
        pictures, place = _units(record, place + 1, record[place])
        return cls(
            *(record[1], record[2], record[3], (record[4] & 3) + 1),
            sequences=sequences,
            pictures=pictures,
            rest=record[place:],
        )

    def to_bytes(self) -> bytes:
        """Return the record."""
        parts = [
            bytes([1, self.profile, self.constraints, self.level, 0xFC | self.length_bytes - 1]),
            bytes([0xE0 | len(self.sequences)]),
            *(len(unit).to_bytes(2, "big") + unit for unit in self.sequences),
            bytes([len(self.pictures)]),
            *(len(unit).to_bytes(2, "big") + unit for unit in self.pictures),
            self.rest,
        ]
        return b"".join(parts)

    def first(self) -> StreamParameters:
        """Return what the first sequence parameter set says.

        Raises:
            Damaged: there is none.
        """
        if not self.sequences:
            raise Damaged("the stream's parameters are not in front of it")
        return StreamParameters.parse(self.sequences[0])

    def ids(self) -> set[int]:
        """Return every id that a set has, of either kind."""
        found = {StreamParameters.parse(unit).set_id for unit in self.sequences}
        return found | {_Bits(unit[1:]).unsigned() for unit in self.pictures}

    def free_id(self) -> int:
        """Return the lowest id that no set has, for sets that are to be beside them.

        Raises:
            Damaged: all are taken.
        """
        taken = self.ids()
        for candidate in range(MAX_SPS_ID + 1):
            if candidate not in taken:
                return candidate
        raise Damaged("its parameters leave no room for others")

    def holds(self, unit: bytes) -> bool:
        """Return whether a unit of a sample is none of parameters, or one of these."""
        kind = unit[0] & 0x1F
        if kind in (SPS, PPS):
            return unit in self.sequences or unit in self.pictures
        return kind != SPS_EXTENSION


def of_all(configurations: Sequence[Configuration]) -> Configuration:
    """Return one for streams that follow each other, each with its own parameters.

    Raises:
        Damaged: two of them give the same id to different sets, or count lengths otherwise.
    """
    first = configurations[0]
    if any(each.length_bytes != first.length_bytes for each in configurations):
        raise Damaged("lengths are counted otherwise")
    sequences = dict.fromkeys(unit for each in configurations for unit in each.sequences)
    pictures = dict.fromkeys(unit for each in configurations for unit in each.pictures)
    if len({StreamParameters.parse(unit).set_id for unit in sequences}) < len(sequences):
        raise Damaged("two streams mean different parameters by the same number")
    if len({_Bits(unit[1:]).unsigned() for unit in pictures}) < len(pictures):
        raise Damaged("two streams mean different parameters by the same number")
    constraints = first.constraints
    for each in configurations:
        constraints &= each.constraints
    # The profiles that there are here contain each other in the order of their numbers, but for
    # what is Baseline's alone, which nobody uses.
    highest = max(configurations, key=lambda each: (each.profile, len(each.rest)))
    return Configuration(
        profile=highest.profile,
        constraints=constraints,
        level=max(each.level for each in configurations),
        length_bytes=first.length_bytes,
        sequences=tuple(sequences),
        pictures=tuple(pictures),
        rest=highest.rest,
    )


def units_of(sample: bytes, length_bytes: int) -> Iterator[bytes]:
    """Yield the units of a sample, without their lengths.

    Raises:
        Damaged: a length goes beyond the sample, or a unit holds what none does, as where bytes
            were lost and are zeros.
    """
    place = 0
    while place < len(sample):
        start = place + length_bytes
        length = int.from_bytes(sample[place:start], "big")
        place = start + length
        if not length or place > len(sample):
            raise Damaged("a picture is damaged")
        unit = sample[start:place]
        inside = unit[:-_MOST_ZEROS_AFTER] + unit[-_MOST_ZEROS_AFTER:].rstrip(b"\0")
        if any(never in inside for never in _NEVER_INSIDE):
            raise Damaged("a picture is damaged")
        yield unit


def _units(record: bytes, place: int, count: int) -> tuple[tuple[bytes, ...], int]:
    """Return so many units with lengths of two bytes, and where they end."""
    found = []
    for _ in range(count):
        start = place + 2
        place = start + int.from_bytes(record[place:start], "big")
        if place > len(record) or place == start:
            raise Damaged("the stream's parameters are cut off")
        found.append(record[start:place])
    return tuple(found), place


class _Bits:
    """The bits of a unit, without what keeps it from looking like the start of one (§7.4.1)."""

    def __init__(self, unit: bytes) -> None:
        payload = unit.replace(b"\0\0\x03", b"\0\0")
        self._value = int.from_bytes(payload, "big")
        self._left = len(payload) * 8

    def take(self, count: int) -> int:
        """Return the next bits as a number."""
        self._left -= count
        if self._left < 0:
            raise Damaged("the stream's parameters are cut off")
        return self._value >> self._left & (1 << count) - 1

    def unsigned(self) -> int:
        """Return an Exp-Golomb code (§9.1); a signed one is as long."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + (self.take(zeros) if zeros else 0)

    def signed(self) -> int:
        """Return a signed Exp-Golomb code (§9.1.1)."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)

    def skip_scaling_lists(self, count: int) -> None:
        """Skip what follows seq_scaling_matrix_present_flag (§7.3.2.1.1.1)."""
        for number in range(count):
            if not self.take(1):
                continue
            last = following = 8
            for _ in range(16 if number < 6 else 64):
                if following:
                    following = (last + self.signed()) % 256
                last = following or last
