"""What a finished file is, and whether that was planned. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Self

from services.common.codecs import has_pictures
from services.common.frames import rate_of
from services.common.planner import duration_of
from services.encoder.commands.colour import Tags
from services.encoder.commands.look import Look
from services.encoder.errors import FramesMissing, OutputMismatch, SoundMissing
from videoexport.v1 import export_pb2 as pb

# How far lengths may be off, in seconds: the rounding of timestamps, and no more.
TOLERANCE = Fraction(1, 1000)
# What nobody can see or hear; timestamps of one millisecond alone are off by one.
MOST_AV_OFFSET = Fraction(5, 1000)


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """What is in a finished file, counted packet by packet.

    Attributes:
        frame_count: video packets that are shown.
        duration: of the video in seconds.
        audio_duration: of the sound in seconds, without the codec's priming; None
            without sound.
        width, height: of the video in pixels; 0 without video.
        index_in_front: whether playing can begin before the whole file is there.
        av_offset: the most that any frame is off the sound that belongs to it, in seconds; None
            without sound or without pictures.
        codec, pixel_format: of the video, as FFmpeg names them.
        color_primaries, color_transfer, color_space, color_range: what the file says of its
            colours, as FFmpeg names them; empty where it says nothing.
        keyframes_decoded: keyframes that were decoded without any complaint.
    """

    size_bytes: int
    frame_count: int
    duration: Fraction
    audio_duration: Fraction | None
    width: int
    height: int
    index_in_front: bool
    av_offset: Fraction | None = None
    codec: str = ""
    pixel_format: str = ""
    color_primaries: str = ""
    color_transfer: str = ""
    color_space: str = ""
    color_range: str = ""
    keyframes_decoded: int = 0

    @property
    def tags(self) -> Tags:
        """What the file says of its colours."""
        told = (self.color_primaries, self.color_transfer, self.color_space, self.color_range)
        return Tags(*told)

    def to_json(self) -> bytes:
        """Return the facts as JSON, fractions as text."""
        return json.dumps(asdict(self), default=str).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return what `to_json` wrote."""
        values = json.loads(data)
        for name in ("duration", "audio_duration", "av_offset"):
            values[name] = None if values[name] is None else Fraction(values[name])
        return cls(**values)


def check_output(facts: OutputFacts, plan: pb.Plan, look: Look | None) -> None:
    """Raise OutputMismatch, naming every difference, unless the file is the one planned.

    Args:
        look: of its pictures; None where it has none.
    """
    rate = rate_of(plan.frame_rate)
    duration = plan.frame_count / rate
    pictures = has_pictures(plan.format)
    frames = plan.frame_count if pictures else 0
    faults = []
    kind = FramesMissing if facts.frame_count < frames else OutputMismatch
    if facts.frame_count != frames:
        faults.append(f"{facts.frame_count} frames instead of {frames}")
    if pictures and abs(facts.duration - duration) > TOLERANCE:
        faults.append(f"{float(facts.duration):.3f} s instead of {float(duration):.3f} s")
    if (facts.width, facts.height) != (plan.width, plan.height):
        faults.append(
            f"{facts.width} × {facts.height} pixels instead of {plan.width} × {plan.height}"
        )
    if (facts.audio_duration is not None) != plan.has_audio:
        faults.append("no sound" if plan.has_audio else "sound that was not planned")
    elif facts.audio_duration is not None:
        error = facts.audio_duration - duration
        if abs(error) > TOLERANCE:
            than = "the video" if pictures else "planned"
            faults.append(f"sound that is {float(error * 1000):+.1f} ms longer than {than}")
            if error < 0 and facts.frame_count == frames:
                kind = SoundMissing
    if facts.av_offset is not None and facts.av_offset > MOST_AV_OFFSET:
        faults.append(f"sound that is {float(facts.av_offset * 1000):.1f} ms off its pictures")
    if look is not None:
        # An encoder may do something else than it was told, and not say so.
        faults += look.faults(facts.codec, facts.pixel_format, facts.tags)
    if not facts.index_in_front:
        faults.append("its index at the end")
    if faults:
        raise kind("the output has " + ", ".join(faults))


def verification_of(facts: OutputFacts, plan: pb.Plan) -> pb.Verification:
    """Return what the owner is told of a file that is the one planned."""
    said = pb.Verification()
    if has_pictures(plan.format):
        said = pb.Verification(
            planned_frame_count=plan.frame_count,
            frame_count=facts.frame_count,
            video_duration=duration_of(facts.duration),
            rotation=plan.rotation,
            video_codec=facts.codec,
            pixel_format=facts.pixel_format,
            color_primaries=facts.color_primaries,
            color_transfer=facts.color_transfer,
            color_space=facts.color_space,
            color_range=facts.color_range,
        )
    if facts.audio_duration is not None:
        said.audio_duration.CopyFrom(duration_of(facts.audio_duration))
    if facts.av_offset is not None:
        said.largest_av_offset.CopyFrom(duration_of(facts.av_offset))
    return said


def check_soundtrack(facts: OutputFacts, duration: Fraction) -> None:
    """Raise OutputMismatch unless the file is sound of this length, in seconds, alone."""
    if facts.frame_count or facts.audio_duration is None:
        raise OutputMismatch("the soundtrack is not sound alone")
    error = facts.audio_duration - duration
    if abs(error) > TOLERANCE:
        kind = SoundMissing if error < 0 else OutputMismatch
        raise kind(f"the soundtrack is {float(error * 1000):+.1f} ms longer than planned")
