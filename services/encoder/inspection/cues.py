"""Subtitles of a source, read with PyAV. Runs in a child process only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.subtitles.stream import SubtitleStream

from services.common.caller import has_control_characters
from services.common.subtitles import TEXT_CODECS
from services.encoder.commands.containers import MP4_FORMAT
from services.encoder.commands.cues import MARGIN
from services.encoder.errors import InvalidSubtitles, SourceUnavailable
from services.encoder.inspection.http_file import HttpFile

# Of one that does not say when it ends, where the next does not follow sooner.
MOST_SECONDS = Fraction(10)
MAX_TEXT = 2000
_MAX_LOOKS = 64 << 10
_LOOKS = re.compile(r"^\[(Script Info|V4\+? Styles)\]$", re.IGNORECASE)


def inspect_cues(
    url: str, size_bytes: int, container: str, stream: int, spans: Sequence[tuple[int, int]]
) -> bytes:
    """Return the cues that are shown in spans, as JSON.

    Args:
        container: as the probe has found it; nothing else is read.
        spans: from and to in milliseconds on the container's clock, ascending.

    Raises:
        InvalidSubtitles: they cannot be read.
        SourceUnavailable: the source could not be read.
    """
    file = HttpFile(url, size_bytes)
    try:
        options = {"format_whitelist": container}
        with av.open(file, "r", options=options, metadata_errors="replace") as opened:
            found = next((each for each in opened.streams.subtitles if each.index == stream), None)
            if found is None or found.codec_context.name not in TEXT_CODECS:
                raise InvalidSubtitles("the source has no such subtitles any more")
            cues = list(_cues(opened, found, spans))
            looks = _looks(found) if found.codec_context.name in ("ass", "ssa") else ""
    except (av.FFmpegError, OSError, EOFError) as error:
        if file.failure is not None:
            raise SourceUnavailable("the source could not be read from storage") from error
        raise InvalidSubtitles("the subtitles are damaged and cannot be read") from error
    finally:
        file.close()
    return json.dumps({"cues": cues, "looks": looks}).encode()


def _cues(
    container: InputContainer, stream: SubtitleStream, spans: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, str, int, str, str]]:
    for start, end in spans:
        first, last = Fraction(start, 1000) - MARGIN, Fraction(end, 1000)
        packets = [each for each in _packets(container, stream, first, last) if each.size]
        for number, packet in enumerate(packets):
            tick = packet.time_base or Fraction(1, 1000)
            begins = (packet.pts or 0) * tick
            following = packets[number + 1].pts if number + 1 < len(packets) else None
            ends = begins + (packet.duration or 0) * tick
            if not packet.duration:
                ends = begins + MOST_SECONDS
                if following is not None:
                    ends = min(ends, following * tick)
            if begins >= last or ends <= Fraction(start, 1000):
                continue
            for layer, style, text in _texts(stream, packet):
                yield str(begins), str(ends), layer, style, text


def _packets(
    container: InputContainer, stream: SubtitleStream, first: Fraction, last: Fraction
) -> Iterator[Packet[SubtitleStream]]:
    """Yield the packets of a stream around a span."""
    video = container.streams.video[0]
    by_index = container.format.name == MP4_FORMAT
    # By the index of the stream itself the packet is found that is shown at a time; elsewhere
    # pictures tell how far it is, for the next subtitle may be at the end of the file.
    streams = [stream] if by_index else [video, stream]
    for other in container.streams:
        other.discard = Discard.default if other in streams else Discard.all
    guide = streams[0]
    tick = guide.time_base or Fraction(1, 1000)
    container.seek(int(first / tick), stream=guide)
    for packet in container.demux(streams):
        time = packet.pts if packet.pts is not None else packet.dts
        if packet.stream_index == stream.index:
            yield cast("Packet[SubtitleStream]", packet)
        if time is not None and time * (packet.time_base or tick) > last + 1:
            return


def _texts(
    stream: SubtitleStream, packet: Packet[SubtitleStream]
) -> Iterator[tuple[int, str, str]]:
    try:
        rectangles = list(stream.decode(packet))
    except av.FFmpegError:
        return  # one damaged cue is not worth the others
    for rectangle in rectangles:
        # ReadOrder, Layer, Style, Name, MarginL, MarginR, MarginV, Effect, Text
        fields = getattr(rectangle, "ass", b"").decode(errors="replace").split(",", 8)
        if len(fields) < 9:
            continue
        layer = int(fields[1]) if re.fullmatch(r"[0-9]{1,4}", fields[1]) else 0
        text = re.sub(r"\r?\n", r"\\N", fields[8])
        yield layer, _shown(fields[2])[:MAX_TEXT], _shown(text)[:MAX_TEXT]


def _looks(stream: SubtitleStream) -> str:
    """Return resolution and styles, without fonts and pictures that a file may bring along."""
    header = bytes(stream.codec_context.subtitle_header or b"")[:_MAX_LOOKS]
    kept: list[str] = []
    taken = False
    for line in header.decode(errors="replace").splitlines():
        if line.startswith("["):
            taken = _LOOKS.match(line.strip()) is not None
        if taken:
            kept.append(_shown(line))
    return "\n".join(kept)


def _shown(text: str) -> str:
    return "".join(char for char in text if not has_control_characters(char))
