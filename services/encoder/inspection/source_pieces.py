"""The frame grid of a recording whose clock jumps, piece by piece. Runs in a child process only."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import pairwise

from services.common.frames import rate_of
from services.common.planner import duration_of, fraction_of
from services.encoder.errors import InvalidSource
from services.encoder.inspection.http_file import HttpFile
from services.encoder.inspection.source_timing import MAX_SECONDS
from videoexport.v1 import export_pb2 as pb

MAX_BREAKS = 100

Describe = Callable[["Slice"], pb.SourceInfo]


class Slice:
    """A part of a file as a file of its own; enough of the protocol for PyAV."""

    def __init__(self, file: HttpFile, first: int, after: int) -> None:
        self._file, self._first, self._size = file, first, after - first
        file.seek(first)

    def read(self, length: int = -1) -> bytes:
        """Return the next bytes."""
        left = self._size - self.tell()
        return self._file.read(left if length < 0 else min(length, left)) if left > 0 else b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset` from the start, the position or the end."""
        base = (0, self.tell(), self._size)[whence]
        return self._file.seek(self._first + max(0, base + offset)) - self._first

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell() - self._first


def describe_pieces(
    file: HttpFile, size_bytes: int, jumps: Sequence[int], describe: Describe
) -> pb.SourceInfo:
    """Return what a recording is, by what each of its pieces is.

    Args:
        jumps: where another clock begins.
        describe: says what a piece is.

    Raises:
        InvalidSource: none of them is a video, or they do not go together.
    """
    if len(jumps) > MAX_BREAKS:
        raise InvalidSource(
            f"the recording's clock jumps {len(jumps)} times; at most {MAX_BREAKS} can be followed"
        )
    whole: pb.SourceInfo | None = None
    breaks: list[pb.TimeBreak] = []
    frames = 0
    problem = None
    for first, after in pairwise([0, *jumps, size_bytes]):
        place = pb.TimeBreak(position=first, frame=frames)
        try:
            piece = describe(Slice(file, first, after))
        except InvalidSource as error:
            # Of a few pictures at a jump there may be none that can be decoded.
            problem = error
        else:
            place.first_frame_time.CopyFrom(piece.first_frame_time)
            if whole is None:
                whole = piece
                frames = piece.video.frame_count
            else:
                _refuse_others(whole, piece)
                whole.video.variable_frame_rate |= piece.video.variable_frame_rate
                frames += _frames(piece, whole.video.frame_rate)
                _lengthen(whole, piece)
        breaks.append(place)
    if whole is None:
        raise problem or InvalidSource("no picture of the video can be decoded")
    if breaks[0].HasField("first_frame_time"):
        breaks = breaks[1:]
    whole.time_breaks.extend(breaks)
    whole.video.frame_count = frames
    seconds = frames / rate_of(whole.video.frame_rate)
    if seconds > MAX_SECONDS:
        raise InvalidSource("the video says that it lasts for days, or not at all")
    whole.duration.CopyFrom(duration_of(seconds))
    return whole


def _frames(piece: pb.SourceInfo, rate: pb.Rational) -> int:
    """Return how many frames a piece has on the grid of the first one."""
    return round(piece.video.frame_count / rate_of(piece.video.frame_rate) * rate_of(rate))


def _refuse_others(whole: pb.SourceInfo, piece: pb.SourceInfo) -> None:
    """Raise where a piece has other streams than the first one, or in other places."""

    def streams(info: pb.SourceInfo) -> list[tuple[int, str]]:
        found = [(info.video.index, info.video.codec)]
        return found + [(sound.index, sound.codec) for sound in info.audio_streams]

    if streams(whole) != streams(piece):
        raise InvalidSource(
            "the recording goes on with other streams where its clock jumps,"
            " which cannot be exported"
        )


def _lengthen(whole: pb.SourceInfo, piece: pb.SourceInfo) -> None:
    sounds = {sound.index: sound.duration for sound in piece.audio_streams}
    for sound in (*whole.audio_streams, whole.audio):
        if sound.index in sounds:
            length = fraction_of(sound.duration) + fraction_of(sounds[sound.index])
            sound.duration.CopyFrom(duration_of(length))
