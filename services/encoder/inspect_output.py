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

from services.encoder.container_head import index_in_front
from services.encoder.containers import MP4_FORMAT, WEBM_FORMAT
from services.encoder.errors import OutputMismatch
from services.encoder.output_facts import OutputFacts

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
            pictures = _Pictures(video)
            # MP4 says how long its sound is; WebM says of each packet what is played.
            sound = _PlayedSamples(audio) if audio is not None and webm else None
            wanted = [stream for stream in (video, audio if webm else None) if stream is not None]
            for packet in file.demux(wanted) if wanted else ():
                if packet.size and not packet.is_discard:
                    if packet.stream.type == "video":
                        pictures.add(packet)
                    elif sound is not None:
                        sound.add(packet)
            keyframes = _decode_keyframes(file) if decode_keyframes else 0
            heard = None
            if audio is not None:
                heard = sound.duration if sound is not None else _told_duration(audio)
            return OutputFacts(
                size_bytes=path.stat().st_size,
                frame_count=pictures.count,
                duration=pictures.duration_in_webm if webm else pictures.duration,
                audio_duration=heard,
                width=video.codec_context.width if video else 0,
                height=video.codec_context.height if video else 0,
                keyframes_decoded=keyframes,
                index_in_front=index_in_front(path),
            )
    except (av.FFmpegError, OSError) as error:
        raise OutputMismatch("the file cannot be read") from error


class _Pictures:
    """Counts the pictures of a file."""

    def __init__(self, video: VideoStream | None) -> None:
        self._tick = Fraction(1) if video is None else video.time_base or Fraction(1)
        self._rate = None if video is None else video.average_rate
        self._ticks = 0
        self._first, self._last = 1 << 62, 0
        self.count = 0

    def add(self, packet: Packet[Stream]) -> None:
        self.count += 1
        self._ticks += packet.duration or 0
        if packet.pts is not None:
            self._first = min(self._first, packet.pts)
            self._last = max(self._last, packet.pts)

    @property
    def duration(self) -> Fraction:
        """How long they are shown, each as long as its packet says."""
        return self._ticks * self._tick

    @property
    def duration_in_webm(self) -> Fraction:
        """How long they are shown where times are rounded to milliseconds."""
        if not self.count or not self._rate:
            return Fraction(0)
        return (self._last - self._first) * self._tick + 1 / self._rate


class _PlayedSamples:
    """Counts what is played of Opus as we make it: in packets of one length."""

    def __init__(self, audio: AudioStream) -> None:
        self._rate = audio.rate
        self._tick = audio.time_base or Fraction(1)
        self._packets = 0
        self._longest = 0
        self._skipped = 0

    def add(self, packet: Packet[Stream]) -> None:
        self._packets += 1
        self._longest = max(self._longest, packet.duration or 0)
        for data in packet.iter_sidedata():
            if data.data_type == _SKIPPED:
                told = bytes(data)
                self._skipped += sum(int.from_bytes(told[at : at + 4], "little") for at in (0, 4))

    @property
    def duration(self) -> Fraction:
        """Seconds that are played."""
        return self._packets * self._longest * self._tick - Fraction(self._skipped, self._rate)


def _told_duration(audio: AudioStream) -> Fraction:
    return (audio.duration or 0) * (audio.time_base or Fraction(1))


def _decode_keyframes(file: InputContainer) -> int:
    """Decode every keyframe from the beginning and return how many there are."""
    video = file.streams.video[0]
    video.codec_context.skip_frame = "NONKEY"
    video.codec_context.options = {"err_detect": "explode"}
    file.seek(0, stream=video)
    return sum(1 for _ in file.decode(video))
