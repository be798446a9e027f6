"""What a source is, found out with PyAV. Runs in a child process only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from google.protobuf.duration_pb2 import Duration

from services.encoder.errors import InvalidSource, SourceUnavailable
from services.encoder.frame_rate import choose_rate, fits_grid
from services.encoder.http_file import HttpFile
from videoexport.v1 import export_pb2 as pb

# Demuxers that a source may need, by the names FFmpeg gives them: what cameras,
# phones, editors, browsers and recorders write. All of them say when each frame
# shows and can seek; none opens another file (mov's external references are off by
# default). AVI is not one of them: it stores no time of presentation, and cuts were
# wrong by a frame wherever it held B-frames or compressed sound.
FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "flv")
FORMATS_IN_WORDS = "MP4, MOV, Matroska, WebM, MPEG-TS or FLV"

MAX_SIDE = 8192
MAX_SECONDS = 48 * 3600
MAX_RATE = 1000
_REQUEST_TIMEOUT = 60.0
_HEAD_BYTES = 4096
# Enough to see B-frames reordered and a rate vary, little enough to read.
_SAMPLED_PACKETS = 100
_UNDECODABLE_PACKETS = 300
_TAIL_SECONDS = (5, 30, 180, MAX_SECONDS)

_PRIMARIES = {1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film"}
_PRIMARIES |= {9: "bt2020", 10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213"}
_TRANSFERS = {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m"}
_TRANSFERS |= {8: "linear", 9: "log100", 10: "log316", 11: "iec61966-2-4", 12: "bt1361e"}
_TRANSFERS |= {13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084"}
_TRANSFERS |= {17: "smpte428", 18: "arib-std-b67"}
_MATRICES = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m"}
_MATRICES |= {8: "ycgco", 9: "bt2020nc", 10: "bt2020c", 14: "ictcp"}
_RANGES = {1: "tv", 2: "pc"}

_PLAYLIST_SIGNS = (b"#EXTM3U", b"<MPD", b"ffconcat", b"<smil", b"[playlist]", b"v=0\r\n", b"v=0\n")


def inspect_source(url: str, size_bytes: int, etag: str) -> pb.SourceInfo:
    """Return what a source is.

    Raises:
        InvalidSource: it is not a video that can be exported; the message says why.
        SourceUnavailable: it could not be read.
    """
    file = HttpFile(url, size_bytes, _REQUEST_TIMEOUT)
    try:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        with _open(file, head) as container:
            _refuse_cut_off(head, size_bytes)
            info = _inspect(container, size_bytes)
    except (av.FFmpegError, OSError, EOFError) as error:
        if file.failure is not None:
            raise SourceUnavailable("the source could not be read from storage") from error
        raise InvalidSource("the video is damaged and cannot be read") from error
    finally:
        file.close()
    info.size_bytes = size_bytes
    info.etag = etag
    return info


def _open(file: HttpFile, head: bytes) -> InputContainer:
    try:
        return av.open(
            file,
            "r",
            options={"format_whitelist": ",".join(FORMATS)},
            metadata_errors="replace",
            buffer_size=1 << 16,
        )
    except av.FFmpegError as error:
        if file.failure is not None:
            raise
        raise InvalidSource(_why_not_a_video(head)) from error


def _why_not_a_video(head: bytes) -> str:
    if any(sign in head[:512] for sign in _PLAYLIST_SIGNS):
        return "the file is a playlist that refers to other files, not a video"
    if head[4:8] in (b"ftyp", b"wide", b"mdat", b"free", b"skip"):
        return "the video is incomplete: its index is missing, as when an upload was cut off"
    return f"the file is not a video in a supported format ({FORMATS_IN_WORDS})"


def _refuse_cut_off(head: bytes, size_bytes: int) -> None:
    """Raise where the container says how long the file is and it is shorter."""
    if head.startswith(b"\x1a\x45\xdf\xa3") and (end := _matroska_end(head)) > size_bytes:
        raise _cut_off(end - size_bytes)


def _cut_off(missing_bytes: int) -> InvalidSource:
    return InvalidSource(f"the video is incomplete: its last {missing_bytes} bytes are missing")


def _matroska_end(head: bytes) -> int:
    """Return the end of the segment in bytes, 0 where it is not said (RFC 8794)."""
    head = head.ljust(_HEAD_BYTES, b"\0")
    header_length, position = _vint(head, 4)
    position += header_length
    if head[position : position + 4] != b"\x18\x53\x80\x67":
        return 0
    width = 9 - head[position + 4].bit_length()
    length, position = _vint(head, position + 4)
    unknown = (1 << 7 * width) - 1
    return 0 if length == unknown else position + length


def _vint(data: bytes, position: int) -> tuple[int, int]:
    """Return a variable-length integer and the position after it."""
    width = 9 - data[position].bit_length()
    value = int.from_bytes(data[position : position + width], "big") & (1 << 7 * width) - 1
    return value, position + width


def _inspect(container: InputContainer, size_bytes: int) -> pb.SourceInfo:
    video = _video_stream(container)
    missing = max(_indexed_bytes(stream) for stream in container.streams) - size_bytes
    if missing > 0:
        raise _cut_off(missing)
    audio = _audio_stream(container)
    # Times are in a complete index; else they are seen in the packets.
    complete = bool(video.frames) and len(video.index_entries) >= video.frames
    head = _Head.read(container, video, 1 if complete else _SAMPLED_PACKETS)
    timing = _timing(container, video, head)
    info = pb.SourceInfo(container=container.format.name)
    info.duration.CopyFrom(_duration(timing.frame_count / timing.rate))
    info.first_frame_time.CopyFrom(_duration(head.first_time))
    info.video.CopyFrom(_describe_video(video, head.frame, timing))
    if audio is not None:
        info.audio.CopyFrom(_describe_audio(audio, container, head.first_time))
    return info


def _video_stream(container: InputContainer) -> VideoStream:
    """Return the stream to export: the default one, else the first; never a cover picture."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & still]
    if not streams:
        if container.streams.audio:
            raise InvalidSource("the file has sound but no pictures")
        raise InvalidSource("the file contains no video")
    stream = max(streams, key=lambda s: (bool(s.disposition & Disposition.default), -s.index))
    context = stream.codec_context
    if context is None:
        raise InvalidSource("the video's codec is not supported")
    if context.width > MAX_SIDE or context.height > MAX_SIDE:
        raise InvalidSource(
            f"the picture is {context.width} × {context.height} pixels; "
            f"at most {MAX_SIDE} × {MAX_SIDE} can be exported"
        )
    return stream


def _audio_stream(container: InputContainer) -> AudioStream | None:
    """Return the stream to export: the default one, else the first that can be decoded."""
    streams = [
        stream
        for stream in container.streams.audio
        if stream.codec_context is not None and stream.rate > 0 and stream.channels > 0
    ]
    if not streams:
        return None
    return max(streams, key=lambda s: (bool(s.disposition & Disposition.default), -s.index))


def _indexed_bytes(stream: av.stream.Stream) -> int:
    """Return where the last sample that the index names ends, 0 without an index."""
    return max((entry.pos + entry.size for entry in stream.index_entries), default=0)


@dataclass(frozen=True, slots=True)
class _Head:
    """The beginning of the video.

    Attributes:
        frame: the first picture.
        first_time: when it shows, in seconds on the container's clock.
        times: timestamps of the first packets, in seconds, ascending.
    """

    frame: VideoFrame
    first_time: Fraction
    times: list[Fraction]

    @classmethod
    def read(cls, container: InputContainer, video: VideoStream, sample: int) -> _Head:
        """Read until a picture is decoded and the times of `sample` packets are known.

        Raises:
            InvalidSource: nothing can be decoded.
        """
        video.thread_type = "NONE"  # the first picture comes out after fewer packets
        frame = None
        packets = []
        for packet in islice(container.demux(video), _UNDECODABLE_PACKETS):
            if packet.has_sidedata("encryption_info") or packet.has_sidedata(
                "encryption_init_info"
            ):
                raise InvalidSource("the video is encrypted")
            packets.append(packet)
            if frame is None:
                frame = _decode_one(packet)
            if frame is not None and len(packets) >= sample:
                break
        if frame is None or frame.pts is None or frame.time_base is None:
            raise InvalidSource("no picture of the video can be decoded")
        times = sorted(_times(packets))
        first_time = frame.pts * frame.time_base
        return cls(frame, first_time, [time for time in times if time >= first_time])


def _decode_one(packet: Packet[VideoStream]) -> VideoFrame | None:
    try:
        frames = packet.decode()
    except av.FFmpegError:
        return None  # damaged beginnings are usual in recordings; what follows may be fine
    return next((frame for frame in frames if isinstance(frame, VideoFrame)), None)


def _times(packets: list[Packet[VideoStream]]) -> Iterator[Fraction]:
    for packet in packets:
        stamp = packet.dts if packet.pts is None else packet.pts
        shown = not packet.is_discard and not packet.is_corrupt
        if stamp is not None and packet.time_base is not None and shown:
            yield stamp * packet.time_base


@dataclass(frozen=True, slots=True)
class _Timing:
    """The frame grid of a source. `keyframe_interval` is None without an index."""

    rate: Fraction
    varies: bool
    frame_count: int
    keyframe_interval: Fraction | None


def _timing(container: InputContainer, video: VideoStream, head: _Head) -> _Timing:
    index = _Index.of(video)
    tick = index.tick
    complete = bool(video.frames) and len(index.times) == video.frames
    # The index is in order of decoding, but evenly spaced there if it is when shown.
    times = sorted(index.times) if complete else head.times
    candidates = [video.average_rate, video.guessed_rate, video.base_rate]
    rate, varies = choose_rate(times, [rate for rate in candidates if rate], tick)
    if complete and not varies:
        frame_count = len(times)
    elif complete and video.duration:
        frame_count = round(video.duration * tick * rate)
    else:
        end, last = _tail(container, video, rate)
        varies = varies or not fits_grid([head.first_time, last], rate, tick)
        frame_count = round((end - head.first_time) * rate)
        # Matroska's index is read when it is first needed.
        index = _Index.of(video)
        complete = "matroska" in container.format.name
    if not 0 < frame_count / rate <= MAX_SECONDS:
        raise InvalidSource("the video says that it lasts for days, or not at all")
    interval = index.keyframe_interval(frame_count / rate) if complete else None
    return _Timing(rate, varies, frame_count, interval)


@dataclass(frozen=True, slots=True)
class _Index:
    """What the container's index says: times and keyframes in seconds, in its order.

    PyAV's entries point into memory that reading on moves, so they are copied.
    """

    tick: Fraction
    times: list[Fraction]
    keyframes: list[Fraction]

    @classmethod
    def of(cls, video: VideoStream) -> _Index:
        tick = video.time_base or Fraction(1, 1000)
        entries = [
            (entry.timestamp * tick, entry.is_keyframe)
            for entry in video.index_entries
            if not entry.is_discard
        ]
        times = [time for time, _ in entries]
        return cls(tick, times, [time for time, key in entries if key])

    def keyframe_interval(self, length: Fraction) -> Fraction | None:
        """Return the longest distance from a keyframe to the next or to the end."""
        if not self.keyframes:
            return None
        ends = [*self.keyframes[1:], self.keyframes[0] + length]
        return max(after - key for key, after in zip(self.keyframes, ends, strict=True))


def _tail(
    container: InputContainer, video: VideoStream, rate: Fraction
) -> tuple[Fraction, Fraction]:
    """Return when the last picture ends and when it begins, in seconds."""
    tick = video.time_base or Fraction(1, 1000)
    start = Fraction(container.start_time or 0, av.time_base)
    length = Fraction(container.duration or 0, av.time_base)
    for seconds in _TAIL_SECONDS:
        container.seek(int((start + max(length - seconds, Fraction(0))) / tick), stream=video)
        last = end = None
        for packet in container.demux(video):
            for time in _times([packet]):
                if last is None or time > last:
                    last = time
                    end = time + (packet.duration * tick if packet.duration else 1 / rate)
        if last is not None and end is not None:
            return end, last
    raise InvalidSource("the video's end cannot be found")


def _describe_video(video: VideoStream, frame: VideoFrame, timing: _Timing) -> pb.VideoStream:
    context = video.codec_context
    sar = video.sample_aspect_ratio or Fraction(1)
    described = pb.VideoStream(
        index=video.index,
        codec=context.name,
        width=frame.width,
        height=frame.height,
        # Reported anticlockwise; display matrices of other angles are not upright anyway.
        rotation=round(-frame.rotation / 90) % 4 * 90,
        sample_aspect_ratio=_rational(sar if sar > 0 else Fraction(1)),
        frame_rate=_rational(timing.rate),
        variable_frame_rate=timing.varies,
        frame_count=timing.frame_count,
        pixel_format=frame.format.name,
        bit_depth=max(component.bits for component in frame.format.components),
        color_primaries=_PRIMARIES.get(frame.color_primaries, ""),
        color_transfer=_TRANSFERS.get(frame.color_trc, ""),
        color_space=_MATRICES.get(frame.colorspace, ""),
        color_range=_RANGES.get(frame.color_range, ""),
        bit_rate=video.bit_rate or 0,
    )
    if timing.keyframe_interval is not None:
        described.max_keyframe_interval.CopyFrom(_duration(timing.keyframe_interval))
    return described


def _describe_audio(
    audio: AudioStream, container: InputContainer, first_frame_time: Fraction
) -> pb.AudioStream:
    tick = audio.time_base or Fraction(1, audio.rate)
    first = first_frame_time if audio.start_time is None else audio.start_time * tick
    if audio.duration:
        length = audio.duration * tick
    else:
        length = Fraction(container.duration or 0, av.time_base)
    described = pb.AudioStream(
        index=audio.index,
        codec=audio.codec_context.name,
        sample_rate=audio.rate,
        channels=audio.channels,
        channel_layout=audio.layout.name,
        bit_rate=audio.bit_rate or 0,
    )
    described.first_sample_time.CopyFrom(_duration(first))
    described.duration.CopyFrom(_duration(length))
    return described


def _rational(value: Fraction) -> pb.Rational:
    return pb.Rational(numerator=value.numerator, denominator=value.denominator)


def _duration(seconds: Fraction) -> Duration:
    nanos = round(seconds * 10**9)
    whole, rest = divmod(abs(nanos), 10**9)
    sign = -1 if nanos < 0 else 1
    return Duration(seconds=sign * whole, nanos=sign * rest)
