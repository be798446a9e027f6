"""Where what an output shows of a source is damaged.

Looked for only once a strict reading has failed of what the source says: a run that may pass
over errors fills the frames of its plan whatever it finds, and does not say which.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

from services.common.damage import damage_warning, time_range
from services.common.frames import FrameRange, rate_of
from services.common.planner import fraction_of
from services.common.sound import pair_of
from services.encoder.commands.ffmpeg_command import ChangedSound
from services.encoder.commands.filters import Timeline
from services.encoder.commands.options import DEFAULT_SEEK_MARGIN
from services.encoder.commands.pieces import Piece, pieces_of, split_at_breaks
from services.encoder.deadline import Deadline
from services.encoder.errors import (
    FramesMissing,
    InvalidSource,
    MediaError,
    SoundChanged,
    SoundMissing,
)
from services.encoder.inspection.probe import look_for_damage
from services.encoder.sources.gateway import SourceHandle
from services.encoder.sources.readable import unless_lost
from videoexport.v1 import export_pb2 as pb

# A source that ends earlier than it says by no more than this lacks its last pictures; one that
# ends earlier lacks what is asked for.
MOST_MISSING_AT_END = 1.0
# Spans of one request, which is a datagram.
_MAX_SPANS = 24


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file is made of.

    Attributes:
        rate: frames per second of the file.
        ranges: of frames at that rate.
        pictures, sound: what it has.
    """

    info: pb.SourceInfo
    rate: pb.Rational
    ranges: Sequence[FrameRange]
    pictures: bool
    sound: bool


@dataclass(slots=True)
class Damage:
    """What was found of what is wanted.

    Attributes:
        anywhere: whether anything is damaged, wanted or near it.
        pictures: whether pictures are.
        frames: those that are wanted and damaged, or without their sound.
        changed_sound: what is to become of sound that changes its channels or its rate.
    """

    anywhere: bool = False
    pictures: bool = False
    frames: list[FrameRange] = field(default_factory=list)
    changed_sound: ChangedSound = ChangedSound.UNEXPECTED

    def explains(self, error: MediaError) -> bool:
        """Return whether a strict run may have failed of this; else that is our own fault."""
        if isinstance(error, FramesMissing):
            return self.pictures
        if isinstance(error, SoundMissing | SoundChanged):
            return self.changed_sound is ChangedSound.PASSED_OVER
        return True

    def warnings(self, rate: Fraction) -> list[pb.ExportWarning]:
        """Return what the owner is told; nothing where what is wanted is whole."""
        if not self.frames:
            return []
        ranges = [time_range(each.start / rate, each.end / rate) for each in self.frames]
        return [damage_warning(ranges)]


async def find_damage(source: SourceHandle, wanted: Wanted, deadline: Deadline) -> Damage:
    """Return what of a source is damaged.

    Raises:
        InvalidSource: nothing of it can be shown, or it ends before what is wanted does.
        MediaError, DomainError: it is lost, or looking for it took too long.
    """
    rate = rate_of(wanted.rate)
    timeline = Timeline(rate, fraction_of(wanted.info.first_frame_time))
    damage = Damage()
    shown = 0
    for piece, ranges in _by_piece(wanted, rate):
        clock = timeline.of(piece)
        hulls = _hulls(ranges)
        answer = await _look(source, wanted, piece, clock, hulls, deadline)
        found = json.loads(answer)
        pictures, sound, ends = found["pictures"], found["sound"], found["ends"]
        if found["rate_changes"]:
            # FFmpeg goes on to count the packets of a broadcast by the rate that it had first.
            raise InvalidSource(
                "the sound changes its sample rate within the video, which cannot be exported"
            )
        if ends is not None and ends < float(clock.time(hulls[-1].end)) - MOST_MISSING_AT_END:
            ended = max(0.0, ends - float(clock.origin))
            raise InvalidSource(
                f"the video is incomplete: its pictures end after {ended:.1f} s, before what is"
                " asked for does"
            )
        shown += found["shown"]
        damage.anywhere |= bool(pictures or sound)
        damage.pictures |= bool(pictures)
        if found["channels_change"]:
            damage.changed_sound = ChangedSound.EVENED
        elif found["slips"] and damage.changed_sound is ChangedSound.UNEXPECTED:
            damage.changed_sound = ChangedSound.PASSED_OVER
        damage.frames += _clipped([*pictures, *sound], clock, ranges)
    if wanted.pictures and not shown:
        raise InvalidSource(
            "the video is damaged: none of the pictures that are asked for can be decoded"
        )
    return damage


def _by_piece(wanted: Wanted, rate: Fraction) -> Iterator[tuple[Piece | None, list[FrameRange]]]:
    """Yield what is wanted of each piece, in the source's order, nothing twice."""
    merged: list[FrameRange] = []
    for frames in sorted(wanted.ranges, key=lambda each: each.start):
        if merged and frames.start <= merged[-1].end:
            merged[-1] = FrameRange(merged[-1].start, max(merged[-1].end, frames.end))
        else:
            merged.append(frames)
    pieces = pieces_of(wanted.info, rate)
    if not pieces:
        yield None, merged
    for piece in pieces:
        inside = [part for frames in merged for _, part in split_at_breaks(frames, [piece])]
        if inside:
            yield piece, inside


def _hulls(ranges: Sequence[FrameRange]) -> list[FrameRange]:
    """Return ranges as so few that a request holds them, the smallest gaps closed."""
    hulls = list(ranges)
    while len(hulls) > _MAX_SPANS:
        nearest = min(range(1, len(hulls)), key=lambda n: hulls[n].start - hulls[n - 1].end)
        hulls[nearest - 1 : nearest + 1] = [
            FrameRange(hulls[nearest - 1].start, hulls[nearest].end)
        ]
    return hulls


async def _look(
    source: SourceHandle,
    wanted: Wanted,
    piece: Piece | None,
    clock: Timeline,
    hulls: Sequence[FrameRange],
    deadline: Deadline,
) -> bytes:
    video = wanted.info.video
    frame = None
    if not video.variable_frame_rate:
        frame = video.frame_rate.denominator / video.frame_rate.numerator
    asked = {
        "video": video.index if wanted.pictures else None,
        "audio": list(pair_of(wanted.info) or [wanted.info.audio.index]) if wanted.sound else [],
        "spans": [
            [round(float(clock.time(place)), 4) for place in (each.start, each.end)]
            for each in hulls
        ],
        "margin": float(DEFAULT_SEEK_MARGIN),
        "frame": frame,
    }
    size = wanted.info.size_bytes
    work = look_for_damage(
        piece.url(source.url) if piece else source.url,
        size_bytes=piece.end - piece.position if piece else size,
        wanted=asked,
        deadline=deadline,
    )
    return await unless_lost(work, source)


def _clipped(
    spans: Sequence[tuple[float, float]], clock: Timeline, ranges: Sequence[FrameRange]
) -> Iterator[FrameRange]:
    """Yield what of the ranges lies in the spans."""
    for start, end in spans:
        # A picture's time is rounded; sound may be missing for part of a frame.
        first = floor((Fraction(start) - clock.origin) * clock.rate + Fraction(1, 4))
        after = ceil((Fraction(end) - clock.origin) * clock.rate - Fraction(1, 4))
        for frames in ranges:
            inside = FrameRange(max(first, frames.start), min(max(after, first + 1), frames.end))
            if inside.start < inside.end:
                yield inside
