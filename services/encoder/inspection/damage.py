"""Where a source cannot be decoded, found out with PyAV. Runs in a child process only.

It decodes as FFmpeg does when it may pass over errors, and compares the pictures that come out
with those that there should be. Times are seconds on the container's clock.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import av
import av.logging
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.frame import VideoFrame

from services.encoder.errors import InvalidSource, SourceUnavailable
from services.encoder.formats.container_head import HEAD_BYTES
from services.encoder.inspection.demuxing import packets_of
from services.encoder.inspection.heard import Form, Heard, meant_forms
from services.encoder.inspection.http_file import HttpFile
from services.encoder.inspection.source import open_source

Span = tuple[float, float]

# Pictures after the last one that is wanted may be coded before it, and its decoder runs ahead.
_AHEAD = 2.0
_SOUND_MARGIN = 0.5
# Of a picture, by which it may be off the time that its packet says.
_NEAR = 0.6
# Sound that is missing for less is not heard, and timestamps are rounded.
_SOUND_HOLE = 0.01
# How far from a damaged picture one may be that has lost something.
_TORN = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked through.

    Attributes:
        video: index of the stream with pictures; None where none are wanted.
        audio: indexes of the streams with sound.
        spans: that are wanted, in order, apart from each other.
        margin: seconds that reading begins early.
        frame: seconds that a picture lasts; None where that varies.
    """

    video: int | None
    audio: list[int]
    spans: list[Span]
    margin: float
    frame: float | None

    @classmethod
    def from_request(cls, request: dict[str, Any]) -> Wanted:
        """Return what a request asks for."""
        return cls(**request | {"spans": [(start, end) for start, end in request["spans"]]})


@dataclass(slots=True)
class Found:
    """What is damaged.

    Attributes:
        pictures: spans in which pictures are missing or may look damaged.
        sound: spans without sound that there should be.
        shown: how many pictures can be decoded at all of what is wanted and right before it.
        ends: when the last picture ends, where that is before what is wanted does.
        channels_change: whether sound has other channels here than there, and is meant to.
        rate_changes: whether it has another rate, and is meant to.
        slips: whether it has either for a moment, by damage.
    """

    pictures: list[Span] = field(default_factory=list)
    sound: list[Span] = field(default_factory=list)
    shown: int = 0
    ends: float | None = None
    channels_change: bool = False
    rate_changes: bool = False
    slips: bool = False

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self)).encode()


def inspect_damage(url: str, size_bytes: int, wanted: Wanted) -> bytes:
    """Return what of a source is damaged, as JSON of `Found`.

    Raises:
        InvalidSource: it cannot be read at all.
        SourceUnavailable: storage does not give it.
    """
    file = HttpFile(url, size_bytes)
    found = Found()
    try:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        with open_source(file, file, head) as container:
            for span in wanted.spans:
                if wanted.video is not None:
                    _look(container, wanted.video, span, wanted, found)
            for index in wanted.audio:
                meant: set[Form] = set()
                for span in wanted.spans:
                    meant |= _listen(container, index, span, found)
                found.channels_change |= len({form.channels for form in meant}) > 1
                found.rate_changes |= len({form.rate for form in meant}) > 1
    except (av.FFmpegError, OSError, EOFError, IndexError) as error:
        if file.failure is None:
            raise InvalidSource("the video is damaged and cannot be read") from error
    finally:
        file.close()
    if file.failure is not None:
        raise SourceUnavailable("the source could not be read from storage") from file.failure
    return found.to_json()


@dataclass(frozen=True, slots=True)
class _Due:
    """A picture that there should be.

    Attributes:
        time: when it shows.
        lasts: how long; 0 where that is not said.
        key: whether it needs none before it.
        torn: whether some of it may have got lost.
    """

    time: float
    lasts: float
    key: bool
    torn: bool


@dataclass(slots=True)
class _Pictures:
    """Pictures that there should be, and those that there are.

    Attributes:
        due: in order of decoding.
        whole, marred: when the decoded ones show, without and with damage.
        trouble: when those show before which something got lost on the way to the decoder.
        reach: how long before a picture others show that are decoded after it.
    """

    due: list[_Due] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    marred: list[float] = field(default_factory=list)
    trouble: list[float] = field(default_factory=list)
    reach: float = 0.0

    def set_reach(self) -> None:
        """Find out how long before a picture others show that are decoded after it."""
        earliest = float("inf")
        for due in reversed(self.due):
            self.reach = max(self.reach, due.time - earliest)
            earliest = min(earliest, due.time)


def _look(container: InputContainer, index: int, span: Span, wanted: Wanted, found: Found) -> None:
    """Find out which pictures of a span are damaged."""
    start, end = span
    stream = container.streams[index]
    tick = float(stream.time_base or 1)
    pictures = _Pictures()
    for packet, frames, lost in _decoded(container, stream, start - wanted.margin, end + _AHEAD):
        if lost and packet.pts is not None:
            pictures.trouble.append(packet.pts * tick)
        if packet.pts is not None and not packet.is_discard:
            lasts = (packet.duration or 0) * tick
            pictures.due.append(
                _Due(packet.pts * tick, lasts, packet.is_keyframe, packet.is_corrupt)
            )
        for frame in frames:
            if isinstance(frame, VideoFrame) and frame.pts is not None:
                shown = pictures.marred if frame.is_corrupt else pictures.whole
                shown.append(frame.pts * tick)
    pictures.whole.sort()
    pictures.set_reach()
    there = sorted((*pictures.whole, *pictures.marred))
    usual = wanted.frame or _usual(pictures.due)
    found.shown += len(there)
    last = max((due.time + (due.lasts or usual) for due in pictures.due), default=start)
    if last < end - usual / 2:
        found.pictures.append((last, end))
        found.ends = min(found.ends or last, last)
    # Where the reading begins, what a picture needs may lie before it.
    first = there[0] if there else start
    for time in _damaged(pictures, there, usual, steady=wanted.frame is not None):
        if time >= first:
            found.pictures.append(_affected(pictures, time, usual, end + _AHEAD))


def _usual(due: list[_Due]) -> float:
    """Return how long a picture lasts on average."""
    times = [each.time for each in due]
    return (max(times) - min(times)) / (len(times) - 1) if len(times) > 1 else 0.04


def _damaged(pictures: _Pictures, there: list[float], usual: float, *, steady: bool) -> list[float]:
    """Return when pictures are due that are missing or marred."""
    found = list(pictures.marred)
    found += [due.time for due in pictures.due if not _has(there, due.time, usual)]
    torn = [due.time for due in pictures.due if due.torn]
    # Packets that are lost leave no trace but the hole and the trouble beside it; sources whose
    # rate varies have holes by themselves.
    trouble = [*torn, *pictures.trouble]
    found += [
        before + usual
        for before, after in pairwise(there)
        if after - before > 1.5 * usual
        and (steady or any(before - _TORN < time < after + _TORN for time in trouble))
    ]
    # Some decoders say it of another picture, and recordings that were joined lack nothing.
    found += [time for time in torn if any(abs(time - other) < _TORN for other in found)]
    return found


def _affected(pictures: _Pictures, time: float, usual: float, end: float) -> Span:
    """Return what may look damaged where the picture of some time is.

    That is what is decoded after it, up to the next picture that needs none before it; and some
    of it shows before it, as far as pictures anywhere do before others that they need.
    """
    whole = (each.time for each in pictures.due if each.key and not each.torn)
    keys = (key for key in whole if key > time + usual / 2)
    healed = min((key for key in keys if _has(pictures.whole, key, usual)), default=end)
    return time - pictures.reach, max(healed, time + usual)


def _has(times: list[float], time: float, usual: float) -> bool:
    """Return whether one of the ascending times is about this one."""
    place = bisect_left(times, time - _NEAR * usual)
    return place < len(times) and times[place] < time + _NEAR * usual


def _listen(container: InputContainer, index: int, span: Span, found: Found) -> set[Form]:
    """Find out where sound of a span is missing; holes that it has by itself look the same.

    Returns:
        the forms that it is meant to have there.
    """
    start, end = span
    stream = container.streams[index]
    heard = []
    for _, frames, _ in _decoded(container, stream, start - _SOUND_MARGIN, end):
        for frame in frames:
            if not isinstance(frame, AudioFrame) or frame.pts is None:
                continue
            begins = float(frame.pts * (frame.time_base or 1))
            ends = begins + frame.samples / frame.sample_rate
            heard.append(Heard(begins, ends, Form(frame.sample_rate, frame.layout.name)))
    meant = meant_forms(heard)
    right = [each for each in heard if each.form in meant]
    found.slips |= len(right) < len(heard)
    found.sound += [
        (before.ends, after.begins)
        for before, after in pairwise(right)
        if after.begins - before.ends > _SOUND_HOLE
    ]
    heard_to = right[-1].ends if right else start
    if heard_to < end - _SOUND_HOLE:
        found.sound.append((heard_to, end))
    return meant


def _decoded(
    container: InputContainer, stream: Stream, start: float, end: float
) -> Iterator[tuple[Packet[Any], list[Any], bool]]:
    """Yield packets from before `start` to `end`.

    Each with the frames that have come out by then, and whether what takes the file apart has
    complained on the way to it.
    """
    tick = float(stream.time_base or 1)
    # What is cut off of another stream is no end of this one.
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    begins = (container.start_time or 0) / av.time_base
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False) as said:
            container.seek(int(max(start, begins) / tick), stream=stream)
            for packet in _packets(container, stream):
                lost = any(name == container.format.name for _, name, _ in said)
                time = packet.pts if packet.dts is None else packet.dts
                last = time is not None and time * tick > end
                frames: list[Any] = []
                with suppress(av.FFmpegError):
                    frames += packet.decode()
                with suppress(av.FFmpegError):
                    if last:
                        frames += stream.codec_context.decode(None)  # type: ignore[attr-defined]
                yield packet, frames, lost
                if last:
                    return
                said.clear()
    finally:
        av.logging.set_level(level)


def _packets(container: InputContainer, stream: Stream) -> Iterator[Packet[Any]]:
    """Yield packets until there are no more, or the file cannot be taken apart further."""
    packets = packets_of(container, stream)
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.InvalidDataError):
            return
