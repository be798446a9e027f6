"""What a finished file is, found out with PyAV. Runs in a child process only."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from services.encoder.commands.containers import MP4_FORMAT, WEBM_FORMAT
from services.encoder.errors import OutputMismatch
from services.encoder.formats.colour_names import MATRICES, PRIMARIES, RANGES, TRANSFERS
from services.encoder.formats.container_head import index_in_front
from services.encoder.inspection.av_offset import Shown, largest_av_offset
from services.encoder.inspection.output_facts import OutputFacts

# Of libavcodec's AVSkipSamples: how many samples of a packet's beginning and of its end are not
# played, each of four bytes.
_SKIPPED = "skip_samples"


def inspect_output(path: Path, *, decode_keyframes: bool) -> OutputFacts:
    """Return what is in an output.

    Args:
        decode_keyframes: whether to decode every keyframe, which finds parts that do not go
            with the parameters of the first.

    Raises:
        OutputMismatch: it cannot be read, or a keyframe cannot be decoded.
    """
    try:
        formats = f"{MP4_FORMAT},{WEBM_FORMAT}"
        with av.open(str(path), options={"format_whitelist": formats}) as file:
            video = next(iter(file.streams.video), None)
            audio = next(iter(file.streams.audio), None)
            webm = file.format.name == WEBM_FORMAT
            pictures, sound, skipped = _shown(file, video, audio)
            duration = sum(pictures.lengths) * pictures.tick
            if webm and video is not None:
                duration = _duration_in_webm(pictures, video)
            keyframes = _decode_keyframes(file) if decode_keyframes else 0
            codec = video.codec_context if video else None
            heard = None
            if audio is not None:
                # MP4 says how long its sound is; WebM says of each packet what is played.
                heard = (audio.duration or 0) * (audio.time_base or Fraction(1))
                if webm:
                    heard = _played_in_webm(sound, skipped, audio.rate)
            return OutputFacts(
                size_bytes=path.stat().st_size,
                frame_count=len(pictures.starts),
                duration=duration,
                audio_duration=heard,
                width=codec.width if codec else 0,
                height=codec.height if codec else 0,
                index_in_front=index_in_front(path),
                av_offset=largest_av_offset(pictures, duration, sound),
                codec=codec.codec.canonical_name if codec else "",
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
) -> tuple[Shown, Shown, int]:
    """Return when every picture is shown, when every packet of sound is heard.

    And how many samples of these are left out.
    """
    streams = [stream for stream in (video, audio) if stream is not None]
    pictures, sound = (
        Shown(tick=(stream.time_base if stream else None) or Fraction(1))
        for stream in (video, audio)
    )
    skipped = 0
    for packet in file.demux(*streams) if streams else ():
        if packet.size and not packet.is_discard:
            of = sound if packet.stream is audio else pictures
            of.starts.append(packet.pts or 0)
            of.lengths.append(packet.duration or 0)
            skipped += _skipped(packet) if of is sound else 0
    # They are stored in the order of decoding.
    pictures.starts.sort()
    return pictures, sound, skipped


def _skipped(packet: Packet[Stream]) -> int:
    """Return how many samples are left out at the beginning and the end of a packet."""
    told = [bytes(data) for data in packet.iter_sidedata() if data.data_type == _SKIPPED]
    return sum(int.from_bytes(data[at : at + 4], "little") for data in told for at in (0, 4))


def _duration_in_webm(pictures: Shown, video: VideoStream) -> Fraction:
    """Return how long pictures are shown where times are rounded to milliseconds."""
    if not pictures.starts or not video.average_rate:
        return Fraction(0)
    return (pictures.starts[-1] - pictures.starts[0]) * pictures.tick + 1 / video.average_rate


def _played_in_webm(sound: Shown, skipped: int, rate: int) -> Fraction:
    """Return how long sound is heard, Opus as we make it: in packets of one length."""
    longest = max(sound.lengths, default=0)
    return len(sound.starts) * longest * sound.tick - Fraction(skipped, rate)


def _decode_keyframes(file: InputContainer) -> int:
    """Decode every keyframe from the beginning and return how many there are."""
    video = file.streams.video[0]
    video.codec_context.skip_frame = "NONKEY"
    video.codec_context.options = {"err_detect": "explode"}
    file.seek(0, stream=video)
    return sum(1 for _ in file.decode(video))
