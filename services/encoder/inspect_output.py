"""What a finished file is, found out with PyAV. Runs in a child process only."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from services.encoder.errors import OutputMismatch
from services.encoder.output_facts import OutputFacts


def inspect_output(path: Path, *, decode_keyframes: bool) -> OutputFacts:
    """Return what is in an mp4.

    Args:
        decode_keyframes: whether to decode every keyframe, which finds parts that do not go
            with the parameters of the first.

    Raises:
        OutputMismatch: it is not an mp4, or a keyframe cannot be decoded.
    """
    try:
        with av.open(str(path), options={"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2"}) as file:
            video = next(iter(file.streams.video), None)
            tick = Fraction(1) if video is None else video.time_base or Fraction(1)
            frames = ticks = 0
            for packet in file.demux(video) if video else ():
                if packet.size and not packet.is_discard:
                    frames += 1
                    ticks += packet.duration or 0
            keyframes = _decode_keyframes(file) if decode_keyframes else 0
            audio = next(iter(file.streams.audio), None)
            heard = None
            if audio is not None:
                heard = (audio.duration or 0) * (audio.time_base or Fraction(1))
            return OutputFacts(
                size_bytes=path.stat().st_size,
                frame_count=frames,
                duration=ticks * tick,
                audio_duration=heard,
                width=video.codec_context.width if video else 0,
                height=video.codec_context.height if video else 0,
                keyframes_decoded=keyframes,
                index_in_front=_index_in_front(path),
            )
    except (av.FFmpegError, OSError) as error:
        raise OutputMismatch("the file cannot be read") from error


def _decode_keyframes(file: InputContainer) -> int:
    """Decode every keyframe from the beginning and return how many there are."""
    video = file.streams.video[0]
    video.codec_context.skip_frame = "NONKEY"
    video.codec_context.options = {"err_detect": "explode"}
    file.seek(0, stream=video)
    return sum(1 for _ in file.decode(video))


def _index_in_front(path: Path) -> bool:
    """Walk the boxes at the top level (ISO/IEC 14496-12 §4.2) to the index or the media."""
    with path.open("rb") as file:
        while len(header := file.read(8)) == 8:
            length, kind = int.from_bytes(header[:4], "big"), header[4:]
            if kind in (b"moov", b"mdat"):
                return kind == b"moov"
            if length < 8:
                break
            file.seek(length - 8, 1)
    return False
