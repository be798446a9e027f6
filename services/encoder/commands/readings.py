"""Which pieces of a source are read through which input of FFmpeg. Pure.

A segment needs its own input when it lies elsewhere in the source, for only an
input seeks. But an input costs an open file, a decoder and about a GOP of
decoding that is thrown away, and all inputs of a run are open at once: neighbours
share one, and what would need too many inputs is made in several parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby, pairwise

from services.common.frames import FrameRange
from services.common.planner import fraction_of
from services.encoder.commands.pieces import Piece, split_at_breaks
from videoexport.v1 import export_pb2 as pb

# Where the container does not say how far apart keyframes are; the usual
# encoder settings put them 2 to 10 s apart.
DEFAULT_KEYFRAME_SECONDS = Fraction(5)
MAX_GAP_SECONDS = Fraction(10)

# Memory that the inputs of one run may take together, in bytes, and the parts of an
# input: every one decodes its first frames before the first of them is used.
# Measured with FFmpeg 9 and H.264 of 3 reference frames, each input more takes
# 12 MB at 1280×720, 26 MB at 1920×1080, 137 MB at 3840×2160, 4 MB at 128×72. With x264 and the
# encoder itself, 250 segments of 1080p take 0.99 GB at 640 MiB, and 1.31 GB at 1 GiB.
INPUT_MEMORY = 512 << 20
_INPUT_BYTES = 3 << 20
_FRAMES_HELD = 10
_INDEX_BYTES_PER_SAMPLE = 48
# Every range of an input is a branch for sound, which all its packets pass.
MAX_RANGES = 64
# Opening an input takes 10 to 40 ms, and all are opened before the first frame.
MAX_INPUTS = 64


@dataclass(frozen=True, slots=True)
class Reading:
    """Ranges that one input serves: in order, apart from each other, never empty.

    Attributes:
        piece: of the source that they lie in; None where it is in one piece.
    """

    ranges: tuple[FrameRange, ...]
    piece: Piece | None = None

    @property
    def begins(self) -> int:
        """First frame that the input has."""
        return self.piece.first_frame if self.piece else 0

    def url(self, source: str) -> str:
        """Return where the input is read."""
        return self.piece.url(source) if self.piece else source

    @property
    def start(self) -> int:
        """First frame that is read."""
        return self.ranges[0].start

    @property
    def end(self) -> int:
        """First frame after the last that is read."""
        return self.ranges[-1].end

    @property
    def frame_count(self) -> int:
        """Frames that go into the output."""
        return sum(frames.frame_count for frames in self.ranges)


def readings_of(
    ranges: Sequence[FrameRange], pieces: Sequence[Piece], max_gap: int
) -> list[Reading]:
    """Return the readings that serve `ranges` in their order, each within one piece.

    Args:
        pieces: of the source; none where it is in one.
    """
    if not pieces:
        return group_ranges(ranges, max_gap)
    parts = [part for frames in ranges for part in split_at_breaks(frames, pieces)]
    return [
        replace(reading, piece=piece)
        for piece, some in groupby(parts, key=lambda part: part[0])
        for reading in group_ranges([frames for _, frames in some], max_gap)
    ]


def group_ranges(ranges: Iterable[FrameRange], max_gap: int) -> list[Reading]:
    """Return the readings that serve `ranges` in their order.

    A range joins the reading before it when it follows within `max_gap` frames, up to
    MAX_RANGES of them; ranges that touch become one. Overlaps and steps back begin a new
    reading.
    """
    groups: list[list[FrameRange]] = []
    for frames in ranges:
        last = groups[-1][-1] if groups else None
        if last is not None and frames.start == last.end:
            groups[-1][-1] = FrameRange(last.start, frames.end)
        elif (
            last is None
            or not 0 < frames.start - last.end <= max_gap
            or len(groups[-1]) == MAX_RANGES
        ):
            groups.append([frames])
        else:
            groups[-1].append(frames)
    return [Reading(tuple(group)) for group in groups]


def max_gap(video: pb.VideoStream, rate: Fraction) -> int:
    """Return the gap in frames up to which decoding on is cheaper than another input."""
    seconds = DEFAULT_KEYFRAME_SECONDS
    if video.HasField("max_keyframe_interval"):
        seconds = fraction_of(video.max_keyframe_interval)
    return int(min(seconds, MAX_GAP_SECONDS) * rate)


def input_limit(info: pb.SourceInfo, *, pictures: bool, held: pb.Plan | None = None) -> int:
    """Return how many inputs of this source one run may have open, at least 1.

    Args:
        held: size of the output, where every input holds pictures that are finished.
    """
    video = info.video
    depth = 2 if video.bit_depth > 8 else 1
    pixels = video.width * video.height
    if held is not None:
        pixels = max(pixels, held.width * held.height)
    frame_bytes = pixels * depth * 3 // 2 if pictures else 0
    samples = video.frame_count
    if info.HasField("audio"):
        seconds = info.audio.duration.seconds
        samples += seconds * info.audio.sample_rate // 1024  # AAC's samples a packet
    one = _INPUT_BYTES + _FRAMES_HELD * frame_bytes + _INDEX_BYTES_PER_SAMPLE * samples
    return max(1, min(MAX_INPUTS, INPUT_MEMORY // one))


def split_readings(readings: Sequence[Reading], limit: int) -> list[tuple[Reading, ...]]:
    """Return the readings in parts of at most `limit`, as even as can be."""
    parts = -(-len(readings) // limit)
    bounds = [len(readings) * part // parts for part in range(parts + 1)]
    return [tuple(readings[a:b]) for a, b in pairwise(bounds)]
