"""Whether pictures that were copied and encoded make one film. Runs in a child process only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.encoder.commands.containers import MP4_FORMAT
from services.encoder.commands.options import REORDERED_FRAMES
from services.encoder.errors import OutputMismatch
from services.encoder.inspection.decoding import strict_decoder

# Pictures after a join that are decoded with all that come before it from a keyframe on: a
# decoder then has shown everything that it had kept from before.
AFTER_JOIN = 2 * REORDERED_FRAMES


# A part of a file: its frames; the SHA-256 of its pictures where they have to be certain bytes;
# whether it is decoded from before its beginning.
Part = tuple[int, str | None, bool]


def inspect_joins(path: Path, order: str) -> bytes:
    """Check the pictures of an mp4, and decode around places where parts of it meet.

    Args:
        order: a file of JSON with the `parts`, in order, and `rate`, the frames per second.

    Raises:
        OutputMismatch: bytes, times or what is decoded are not what they should be.
    """
    asked = json.loads(Path(order).read_text())
    parts: list[Part] = asked["parts"]
    rate = Fraction(asked["rate"])
    try:
        with av.open(str(path), options={"format_whitelist": MP4_FORMAT}) as file:
            video = file.streams.video[0]
            video.codec_context.thread_type = "NONE"
            step = 1 / rate / (video.time_base or Fraction(1))
            keyframes = _check_packets(file, video, parts, step)
            starts = list(accumulate((part[0] for part in parts), initial=0))
            joins = [start for start, part in zip(starts, parts, strict=False) if part[2]]
            for first, end in _windows(joins, starts[-1], keyframes):
                _decode(file, video, first, end, step)
    except (av.FFmpegError, IndexError, EOFError) as error:
        raise OutputMismatch("pictures around a join cannot be decoded") from error
    return b""


def _check_packets(
    file: InputContainer, video: VideoStream, parts: Sequence[Part], step: Fraction
) -> list[int]:
    """Return the keyframes that need nothing before them, by their number.

    Every picture was then found at its place, and where that was asked for with its bytes.
    """
    packets = _packets(file, video)
    keyframes: list[int] = []
    first = 0
    for frame_count, wanted, _ in parts:
        digest, times = sha256(), []
        for number in range(first, first + frame_count):
            packet = next(packets, None)
            if packet is None or packet.pts is None:
                raise OutputMismatch("pictures are missing")
            # One that shows later has pictures after it that need those before.
            if packet.is_keyframe and packet.pts == round(number * step):
                keyframes.append(number)
            elif number == first:
                raise OutputMismatch("a part does not begin with a keyframe")
            times.append(packet.pts)
            if wanted is not None:
                digest.update(bytes(packet))
        places = range(first, first + frame_count)
        if sorted(times) != [round(place * step) for place in places]:
            raise OutputMismatch("pictures are not shown in their turn")
        if wanted is not None and digest.hexdigest() != wanted:
            raise OutputMismatch("pictures that were copied are not those of the source")
        first += frame_count
    if next(packets, None) is not None:
        raise OutputMismatch("there are pictures that were not planned")
    return keyframes


def _windows(
    joins: Sequence[int], total: int, keyframes: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Yield what is decoded in one go, from a keyframe before a join to some frames after it."""
    before = 0
    pending: tuple[int, int] | None = None
    place = 0
    for join in joins:
        while place < len(keyframes) and keyframes[place] < join:
            before = keyframes[place]
            place += 1
        window = (before, min(total, join + AFTER_JOIN))
        if pending is not None and window[0] > pending[1]:
            yield pending
            pending = None
        pending = window if pending is None else (pending[0], window[1])
    if pending is not None:
        yield pending


def _decode(file: InputContainer, video: VideoStream, first: int, end: int, step: Fraction) -> None:
    """Decode the packets from number `first` on to before `end`: each gives its picture."""
    decoder = strict_decoder(video)
    wanted, shown = [], []
    file.seek(round(first * step), stream=video)
    for packet in _packets(file, video):
        if packet.pts is None or packet.pts < round(first * step):
            continue
        wanted.append(packet.pts)
        shown += _of_size(decoder.decode(packet), video)
        if len(wanted) == end - first:
            break
    shown += _of_size(decoder.decode(None), video)
    if len(wanted) != end - first or shown != sorted(wanted):
        raise OutputMismatch("not every picture around a join is shown, once and in its turn")


def _of_size(frames: Sequence[VideoFrame], video: VideoStream) -> list[int | None]:
    size = (video.codec_context.width, video.codec_context.height)
    if any((frame.width, frame.height) != size for frame in frames):
        raise OutputMismatch("pictures around a join have another size")
    return [frame.pts for frame in frames]


def _packets(file: InputContainer, video: VideoStream) -> Iterator[Packet[VideoStream]]:
    return (packet for packet in file.demux(video) if packet.size)
