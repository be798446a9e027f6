"""Copies pictures of a source into a part, looking at each. Runs in a child process only."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from fractions import Fraction
from hashlib import sha256
from typing import Any

import av
from av.packet import Packet
from av.video.stream import VideoStream

from services.encoder.commands.containers import MP4_FORMAT
from services.encoder.errors import NotCopyable, ScratchFull, SourceUnavailable
from services.encoder.formats.avc import Configuration, Damaged
from services.encoder.inspection.copyable import (
    OPEN_GOPS,
    keyframe_problem,
    packet_problem,
    packets_from,
)
from services.encoder.inspection.decoding import strict_decoder
from services.encoder.inspection.http_file import LARGE_BLOCK_BYTES, HttpFile

DAMAGED = "some of them are damaged"
# How far from its place on the grid a picture may show, in frames: the rounding of timestamps.
_OFF_GRID = Fraction(1, 4)


def copy_pictures(order: Mapping[str, Any]) -> bytes:
    """Write an mp4 of pictures as they lie in the source; return their SHA-256.

    Args:
        order: `url` and `size_bytes` of the source; the `stream`; `origin`, where the grid
            begins in seconds on the container's clock, and its `rate`; the frames from `start`
            to before `end`; how many frames `ahead` they are decoded; the `part` to write.

    Raises:
        NotCopyable: there is not what was expected between these places.
        ScratchFull: there is no room for the part.
        SourceUnavailable: it could not be read.
    """
    file = HttpFile(order["url"], order["size_bytes"], LARGE_BLOCK_BYTES)
    rate, digest = Fraction(order["rate"]), sha256()
    try:
        with (
            av.open(
                file,
                "r",
                options={"format_whitelist": MP4_FORMAT},
                # Titles in any encoding are nothing to what is copied.
                metadata_errors="replace",
            ) as source,
            av.open(
                order["part"],
                "w",
                format="mp4",
                options={"movflags": "+faststart", "fflags": "+bitexact"},
            ) as part,
        ):
            video = next(s for s in source.streams.video if s.index == order["stream"])
            copy = part.add_stream_from_template(video)
            copy.time_base = 1 / rate
            time = Fraction(order["origin"]) + order["start"] / rate
            packets = packets_from(source, video, time)
            look = _Look(video, rate)
            for packet, place in _pictures(packets, video, order):
                digest.update(bytes(packet))
                count = place - order["start"]
                if packet.is_keyframe:
                    look.at(packet, count)
                packet.stream = copy
                packet.time_base = 1 / rate
                packet.pts, packet.dts, packet.duration = count, packet.dts, 1
                part.mux(packet)
    except Damaged as error:
        raise NotCopyable(str(error)) from error
    except (av.FFmpegError, OSError, EOFError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise ScratchFull("there is no room for the part") from error
        if file.failure is not None:
            raise SourceUnavailable("the source could not be read from storage") from error
        raise NotCopyable("the file is damaged") from error
    finally:
        file.close()
    return digest.digest()


class _Look:
    """Decodes keyframes, of one second at the most one: all pictures would take half an encode."""

    def __init__(self, video: VideoStream, rate: Fraction) -> None:
        # What smooths pictures finds no damage.
        self._decoder = strict_decoder(video, skip_loop_filter="all")
        self._rate = rate
        self._next = Fraction(0)

    def at(self, packet: Packet[VideoStream], count: int) -> None:
        """Decode a keyframe that shows after so many frames, if it is time for one again.

        Raises:
            NotCopyable: it cannot be decoded, or is damaged.
        """
        if count < self._next:
            return
        self._next = count + self._rate
        try:
            frames = [*self._decoder.decode(packet), *self._decoder.decode(None)]
        except av.InvalidDataError as error:
            raise NotCopyable(DAMAGED) from error
        self._decoder.flush_buffers()
        if len(frames) != 1 or frames[0].is_corrupt:
            raise NotCopyable(DAMAGED)


def _pictures(
    packets: Iterator[Packet[VideoStream]], video: VideoStream, order: Mapping[str, Any]
) -> Iterator[tuple[Packet[VideoStream], int]]:
    """Yield the packets of a run with their places on the grid, and their turn as `dts`.

    Raises:
        NotCopyable, Damaged: why they are not those that were planned.
    """
    tick = video.time_base or Fraction(1)
    rate, origin = Fraction(order["rate"]), Fraction(order["origin"])
    start, end = order["start"], order["end"]
    found = Configuration.parse(video.codec_context.extradata or b"")
    missing = set(range(start, end))
    for number in range(end - start):
        packet = next(packets, None)
        if packet is None or packet.pts is None or not packet.size:
            raise NotCopyable("some of them are missing" if number else OPEN_GOPS)
        exact = (packet.pts * tick - origin) * rate
        place = round(exact)
        if abs(exact - place) > _OFF_GRID:
            raise NotCopyable("the time between them varies")
        if place not in missing:
            raise NotCopyable(OPEN_GOPS)
        missing.remove(place)
        problem = (packet_problem if number else keyframe_problem)(packet, found)
        if packet.is_corrupt or packet.is_discard:
            problem = DAMAGED
        if not problem and place - start < number - order["ahead"]:
            problem = "the file does not tell when they are decoded"
        if problem:
            raise NotCopyable(problem)
        packet.dts = number - order["ahead"]
        yield packet, place
