"""What parts say of themselves that are joined without being alike. Runs in a child process only.

Pictures that are copied and those that are encoded beside them have parameter sets of their own,
and one file has one list of them, in front of its pictures. FFmpeg takes it from the first file
that it joins: so that is one without pictures, which has the list of all.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from services.encoder.commands.containers import MP4_FORMAT
from services.encoder.errors import OutputMismatch, SourceUnavailable
from services.encoder.formats.avc import Configuration, Damaged, of_all
from services.encoder.formats.copied_part import SEAL_BYTES, read_seal
from services.encoder.inspection.http_file import HttpFile


def survey_parts(order: str) -> bytes:
    """Return, as JSON, what parts say.

    Args:
        order: a file of JSON with `parts`, their URLs and sizes in bytes, in order, and `rate`,
            the frames per second.

    Returns:
        `head`, in hexadecimal digits: an mp4 without pictures that has the parameters of all;
        `ahead`: how many frames ahead of when they show pictures are decoded, at the most;
        `seals`: of each part the digest and the first frame of what was copied into it, or null.

    Raises:
        OutputMismatch: they cannot be read, or do not join.
        SourceUnavailable: storage does not give them.
    """
    asked = json.loads(Path(order).read_text())
    parts: list[tuple[str, int]] = asked["parts"]
    rate = Fraction(asked["rate"])
    configurations, seals, ahead = [], [], 0
    for url, size in parts:
        with _opened(url, size) as (file, part):
            video = part.streams.video[0]
            configurations.append(Configuration.parse(video.codec_context.extradata or b""))
            ahead = max(ahead, _ahead(part, video, rate))
            file.seek(max(0, size - SEAL_BYTES))
            seals.append(read_seal(file.read()))
    with _opened(*parts[0]) as (_, part):
        head = _head(part.streams.video[0], of_all(list(dict.fromkeys(configurations))))
    told = {
        "head": head.hex(),
        "ahead": ahead,
        "seals": [None if seal is None else (seal.digest.hex(), seal.start) for seal in seals],
    }
    return json.dumps(told).encode()


@contextmanager
def _opened(url: str, size: int) -> Iterator[tuple[HttpFile, InputContainer]]:
    file = HttpFile(url, size)
    try:
        with av.open(file, "r", options={"format_whitelist": MP4_FORMAT}) as part:
            yield file, part
    except Damaged as error:
        raise OutputMismatch(str(error)) from error
    except (av.FFmpegError, IndexError, EOFError, OSError) as error:
        if file.failure is not None:
            raise SourceUnavailable("the parts could not be read from storage") from error
        raise OutputMismatch("a part cannot be read") from error
    finally:
        file.close()


def _ahead(part: InputContainer, video: VideoStream, rate: Fraction) -> int:
    packet = next(part.demux(video))
    if packet.pts is None or packet.dts is None:
        raise Damaged("a part does not tell when its pictures are decoded")
    return round((packet.pts - packet.dts) * (video.time_base or Fraction(1)) * rate)


def _head(video: VideoStream, everything: Configuration) -> bytes:
    """Return an mp4 without pictures, like that of a stream but for its parameters."""
    written = io.BytesIO()
    # A track without pictures is kept only where they may be in fragments that follow.
    options = {"movflags": "+empty_moov+frag_keyframe", "fflags": "+bitexact"}
    with av.open(written, "w", format="mp4", options=options) as head:
        track = head.add_stream_from_template(video)
        track.time_base = video.time_base
        track.codec_context.extradata = everything.to_bytes()
        head.start_encoding()
    return written.getvalue()
