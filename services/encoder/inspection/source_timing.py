"""The frame grid of a source, from its index or its packets. Runs in a child process only.

Times are whole ticks of the video stream's time base, on the container's clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import floor

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.encoder.commands.options import REORDERED_FRAMES
from services.encoder.errors import InvalidSource
from services.encoder.formats.frame_rate import choose_grid, choose_rate, fits_grid
from services.encoder.inspection.demuxing import packets_of

MAX_SECONDS = 48 * 3600
# Seconds. Chunks end on keyframes; more of them than this would only make probes large.
KEYFRAME_SPACING = 2
# Enough to see a rate vary, little enough to read.
_SAMPLED_PACKETS = 100 + REORDERED_FRAMES
_UNDECODABLE_PACKETS = 300
# How far before the end the last picture is looked for, in turn.
_TAIL_SECONDS = (5, 30, 180, MAX_SECONDS)


@dataclass(frozen=True, slots=True)
class Timing:
    """The frame grid of a source.

    Attributes:
        first_frame: the picture that shows first.
        first_time: when frame 0 of the grid begins, in seconds on the container's clock.
        rate: frames per second of the grid.
        varies: whether the time between frames varies.
        frame_count: length of the grid.
        keyframe_interval: the longest, in seconds; None without an index.
        keyframes: frames of the grid from which all that follow can be decoded, at most one
            in KEYFRAME_SPACING; empty where that cannot be told.
        steady: whether the index says that every picture of the grid is there, and no other.
        ahead: how long before it shows the first packet is decoded, in ticks; None where it is
            not said.
    """

    first_frame: VideoFrame
    first_time: Fraction
    rate: Fraction
    varies: bool
    frame_count: int
    keyframe_interval: Fraction | None
    keyframes: tuple[int, ...]
    steady: bool
    ahead: int | None


def find_timing(container: InputContainer, video: VideoStream, size_bytes: int) -> Timing:
    """Return the frame grid; `container` is read from its beginning.

    Args:
        size_bytes: of the file, which may end before its index does.

    Raises:
        InvalidSource: no picture can be decoded, or the video has no length.
    """
    tick = video.time_base or Fraction(1, 1000)
    index = _Index.of(video)
    # Fragments and transport streams have no index; Matroska's has keyframes alone.
    complete = bool(video.frames) and len(index.times) == video.frames
    head = _Head.read(container, video, 1 if complete else _SAMPLED_PACKETS)
    # The index is in order of decoding, but evenly spaced there if it is when shown.
    times = sorted(index.times) if complete else head.times
    candidates = [video.average_rate, video.guessed_rate, video.base_rate]
    rates = [rate for rate in candidates if rate]
    begins = Fraction(0)
    if complete and video.codec_context.has_b_frames:
        # These times are of decoding: their first step tells nothing of when frames show.
        rate, varies = choose_rate(times, rates, tick)
    else:
        rate, varies, begins = choose_grid(times, rates, tick)
    first = head.first + begins
    steady = complete and not varies and not begins
    if complete and not varies:
        frame_count = len(times)
    elif complete and video.duration:
        frame_count = round(video.duration * tick * rate)
    else:
        last, end = _tail(container, video, round(1 / (rate * tick)))
        varies = varies or not fits_grid([round(first), last], rate, tick)
        frame_count = round((end - first) * tick * rate)
        # Matroska's index is read when it is first needed, which was just now.
        index = _Index.of(video)
        complete = "matroska" in container.format.name
    if (lost := index.first_lost(size_bytes)) is not None:
        # Whatever shows before it is due to be decoded was decoded before it.
        there = floor((lost - (head.ahead or 0)) * tick * rate)
        frame_count = min(frame_count, there)
    if not 0 < frame_count / rate <= MAX_SECONDS:
        raise InvalidSource("the video says that it lasts for days, or not at all")
    interval = index.keyframe_interval(round(frame_count / rate / tick)) if complete else None
    told = complete and _closed(container, video, index, head.ahead)
    return Timing(
        first_frame=head.frame,
        first_time=first * tick,
        rate=rate,
        varies=varies,
        frame_count=frame_count,
        keyframe_interval=None if interval is None else interval * tick,
        keyframes=(
            index.keyframes_on_grid(rate * tick, KEYFRAME_SPACING / tick, begins) if told else ()
        ),
        steady=steady,
        ahead=head.ahead,
    )


@dataclass(frozen=True, slots=True)
class _Head:
    """The beginning of the video.

    Attributes:
        frame: the first picture.
        first: when it shows.
        ahead: how far ahead of its turn the first packet is coded; None where it is not said.
        times: when the first packets show, ascending and without a hole; of those that were
            read last some are left out, for what comes after them may show before.
    """

    frame: VideoFrame
    first: int
    ahead: int | None
    times: list[int]

    @classmethod
    def read(cls, container: InputContainer, video: VideoStream, sample: int) -> _Head:
        """Read until a picture is decoded and the times of `sample` packets are known.

        Raises:
            InvalidSource: nothing can be decoded.
        """
        video.thread_type = "NONE"  # the first picture comes out after fewer packets
        frame = None
        packets = []
        at_end = True
        for packet in islice(packets_of(container, video), _UNDECODABLE_PACKETS):
            if packet.has_sidedata("encryption_info"):
                raise InvalidSource("the video is encrypted")
            packets.append(packet)
            if frame is None:
                frame = _decode_one(packet)
            if frame is not None and len(packets) >= sample:
                at_end = False
                break
        if frame is None or frame.pts is None:
            raise InvalidSource("no picture of the video can be decoded")
        times = sorted(_times(packets))
        times = times if at_end else times[:-REORDERED_FRAMES]
        later = [time for time in times if time >= frame.pts]
        return cls(frame, frame.pts, _ahead(packets[0]), later)


def _decode_one(packet: Packet[VideoStream]) -> VideoFrame | None:
    try:
        frames = packet.decode()
    except av.FFmpegError:
        return None  # damaged beginnings are usual in recordings; what follows may be fine
    return next((frame for frame in frames if isinstance(frame, VideoFrame)), None)


def _ahead(packet: Packet[VideoStream]) -> int | None:
    """Return how long before it shows a packet is decoded."""
    return None if packet.pts is None or packet.dts is None else packet.pts - packet.dts


def _closed(
    container: InputContainer, video: VideoStream, index: _Index, ahead: int | None
) -> bool:
    """Return whether keyframes show when the index says so, judged by the one in the middle.

    The index of mov and mp4 says when they are decoded. In open GOPs pictures that follow
    a keyframe show before it, so that it is coded further ahead than the first of all.
    """
    if "matroska" in container.format.name or len(index.keyframes) < 2:
        return True
    container.seek(index.keyframes[len(index.keyframes) // 2], stream=video)
    packet = next(packets_of(container, video), None)
    return packet is not None and _ahead(packet) == ahead


def _times(packets: list[Packet[VideoStream]]) -> Iterator[int]:
    for packet in packets:
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None and not packet.is_discard and not packet.is_corrupt:
            yield time


@dataclass(frozen=True, slots=True)
class _Index:
    """What the container's index says: times of packets and of keyframes, and where packets end.

    PyAV's entries point into memory that reading on moves, so they are copied.
    """

    times: list[int]
    keyframes: list[int]
    ends: list[int]

    @classmethod
    def of(cls, video: VideoStream) -> _Index:
        entries = [
            (entry.timestamp, entry.is_keyframe, entry.pos + entry.size)
            for entry in video.index_entries
            if not entry.is_discard
        ]
        return cls(
            [time for time, _, _ in entries],
            [time for time, key, _ in entries if key],
            [end for _, _, end in entries],
        )

    def first_lost(self, size_bytes: int) -> int | None:
        """Return when, from the first, the first packet is decoded that a file does not have."""
        pairs = zip(self.times, self.ends, strict=True)
        return next((time - self.times[0] for time, end in pairs if end > size_bytes), None)

    def keyframe_interval(self, length: int) -> int | None:
        """Return the longest distance from a keyframe to the next or to the end."""
        if not self.keyframes:
            return None
        ends = [*self.keyframes[1:], self.keyframes[0] + length]
        return max(after - key for key, after in zip(self.keyframes, ends, strict=True))

    def keyframes_on_grid(
        self, frames_per_tick: Fraction, spacing: Fraction, begins: Fraction
    ) -> tuple[int, ...]:
        """Return the keyframes as frames of the grid, the first of each `spacing` ticks.

        The grid begins `begins` ticks after the first frame.

        The index counts in order of decoding, which runs a constant time ahead; so times
        are taken from its first entry, which shows first.
        """
        found: list[int] = []
        due = Fraction(0)
        for key in self.keyframes:
            time = key - self.times[0]
            if time >= due:
                found.append(max(0, round((time - begins) * frames_per_tick)))
                due = time + spacing
        return tuple(found)


def _tail(container: InputContainer, video: VideoStream, usual: int) -> tuple[int, int]:
    """Return when the last picture begins and when it ends.

    Args:
        usual: how long pictures last that do not say it.
    """
    tick = video.time_base or Fraction(1, 1000)
    start = Fraction(container.start_time or 0, av.time_base)
    length = Fraction(container.duration or 0, av.time_base)
    for seconds in _TAIL_SECONDS:
        container.seek(int((start + max(length - seconds, Fraction(0))) / tick), stream=video)
        last = end = None
        for packet in packets_of(container, video):
            for time in _times([packet]):
                if last is None or time > last:
                    last, end = time, time + (packet.duration or usual)
        if last is not None and end is not None:
            return last, end
    raise InvalidSource("the video's end cannot be found")
