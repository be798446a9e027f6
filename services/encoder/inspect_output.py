"""What a finished file is, found out with PyAV. Runs in a child process only."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from services.encoder.av_offset import Shown, largest_av_offset
from services.encoder.colour_names import MATRICES, PRIMARIES, RANGES, TRANSFERS
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
            audio = next(iter(file.streams.audio), None)
            pictures, sound = _shown(file, video, audio)
            keyframes = _decode_keyframes(file) if decode_keyframes else 0
            codec = video.codec_context if video else None
            heard = None
            if audio is not None:
                heard = (audio.duration or 0) * (audio.time_base or Fraction(1))
            return OutputFacts(
                size_bytes=path.stat().st_size,
                frame_count=len(pictures.starts),
                duration=sum(pictures.lengths) * pictures.tick,
                audio_duration=heard,
                width=codec.width if codec else 0,
                height=codec.height if codec else 0,
                index_in_front=_index_in_front(path),
                av_offset=largest_av_offset(pictures, sound),
                codec=codec.name if codec else "",
                pixel_format=(codec.pix_fmt if codec else None) or "",
                color_primaries=PRIMARIES.get(codec.color_primaries, "") if codec else "",
                color_transfer=TRANSFERS.get(codec.color_trc, "") if codec else "",
                color_space=MATRICES.get(codec.colorspace, "") if codec else "",
                color_range=RANGES.get(codec.color_range, "") if codec else "",
                keyframes_decoded=keyframes,
            )
    except (av.FFmpegError, OSError) as error:
        raise OutputMismatch("the file cannot be read") from error


def _shown(
    file: InputContainer, video: VideoStream | None, audio: AudioStream | None
) -> tuple[Shown, Shown]:
    """Return when every picture is shown, and when every packet of sound is heard."""
    streams = [stream for stream in (video, audio) if stream is not None]
    pictures, sound = (
        Shown(tick=(stream.time_base if stream else None) or Fraction(1))
        for stream in (video, audio)
    )
    for packet in file.demux(*streams) if streams else ():
        if packet.size and not packet.is_discard:
            of = sound if packet.stream is audio else pictures
            of.starts.append(packet.pts or 0)
            of.lengths.append(packet.duration or 0)
    # They are stored in the order of decoding.
    pictures.starts.sort()
    return pictures, sound


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
