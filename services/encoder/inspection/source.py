"""What a source is, found out with PyAV. Runs in a child process only."""

from __future__ import annotations

import re
from fractions import Fraction

import av
import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from google.protobuf.duration_pb2 import Duration

from services.common.geometry import MAX_SIDE
from services.encoder.errors import InvalidSource, SourceUnavailable
from services.encoder.formats.colour_names import MATRICES, PRIMARIES, RANGES, TRANSFERS
from services.encoder.formats.container_head import HEAD_BYTES, announced_end, is_mp4, is_playlist
from services.encoder.formats.told import MAX_TITLE, clean, language
from services.encoder.formats.transport_clock import find_jumps
from services.encoder.inspection.copyable import examine
from services.encoder.inspection.http_file import HttpFile
from services.encoder.inspection.metadata import (
    describe_chapters,
    describe_metadata,
    describe_subtitles,
)
from services.encoder.inspection.source_pieces import Slice, describe_pieces
from services.encoder.inspection.source_timing import Timing, find_timing
from videoexport.v1 import export_pb2 as pb

# Demuxers that a source may need, by the names FFmpeg gives them: what cameras,
# phones, editors, browsers and recorders write. All of them say when each frame
# shows and can seek; none opens another file (mov's external references are off by
# default). AVI is not one of them: it stores no time of presentation, and cuts were
# wrong by a frame wherever it held B-frames or compressed sound.
FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "flv")
FORMATS_IN_WORDS = "MP4, MOV, Matroska, WebM, MPEG-TS or FLV"

# Of a stream in FFmpeg's description: pixels left, right, above and below that the container
# has cut off, and whom the pictures of Dolby Vision are for that know nothing of it.
_CROPPING = re.compile(r"^ +Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)$", re.MULTILINE)
_DOLBY_VISION = re.compile(r"^ +DOVI configuration record: .*compatibility id: (\d+)", re.MULTILINE)
# How it says that pictures consist of fields. Of the words for their order in the file and in time
# the first holds: writers do not tell the two apart.
_FIELDS = re.compile(r"\((?:[^()]*, )?(top|bottom)(?: coded)? first(?: \(swapped\))?[,)]")
# FFmpeg's default; it says of more that there is no memory for them.
MAX_STREAMS = 1000
# More are never listed, nor longer: what is known of a source goes with its tasks.
MAX_AUDIO_STREAMS = 64


def inspect_source(url: str, size_bytes: int, etag: str) -> pb.SourceInfo:
    """Return what a source is.

    Raises:
        InvalidSource: it is not a video that can be exported; the message says why.
        SourceUnavailable: it could not be read.
    """
    file = HttpFile(url, size_bytes)
    try:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        with open_source(file, file, head) as container:
            missing = _missing_bytes(container, head, size_bytes)
            jumps = _jumps(file, container, size_bytes)
            info = None if jumps else _describe_what_is_there(container, size_bytes, missing)
        if info is None:

            def describe(piece: Slice) -> pb.SourceInfo:
                with open_source(piece, file, head) as container:
                    return _describe(container, size_bytes)

            info = describe_pieces(file, size_bytes, jumps, describe)
    except (av.FFmpegError, OSError, EOFError) as error:
        if file.failure is not None:
            raise SourceUnavailable("the source could not be read from storage") from error
        raise InvalidSource("the video is damaged and cannot be read") from error
    finally:
        file.close()
    info.size_bytes = size_bytes
    info.etag = etag
    return info


def _jumps(file: HttpFile, container: InputContainer, size_bytes: int) -> list[int]:
    """Return where the clock of a recording jumps."""
    if container.format.name != "mpegts":
        return []
    return find_jumps(file.read_at, size_bytes, _video_stream(container).id)


def open_source(part: HttpFile | Slice, file: HttpFile, head: bytes) -> InputContainer:
    """Open a file, or a part of it."""
    try:
        return av.open(
            part,
            "r",
            options={"format_whitelist": ",".join(FORMATS), "max_streams": str(MAX_STREAMS)},
            metadata_errors="replace",
            buffer_size=1 << 16,
        )
    except av.FFmpegError as error:
        if file.failure is not None:
            raise
        if isinstance(error, av.MemoryError):
            raise InvalidSource(
                f"the video has more than {MAX_STREAMS:,} tracks, or an index that is too large"
                " to be read"
            ) from error
        raise InvalidSource(_why_not_a_video(head)) from error


def _why_not_a_video(head: bytes) -> str:
    if is_playlist(head):
        return "the file is a playlist that refers to other files, not a video"
    if is_mp4(head):
        return "the video is incomplete: its index is missing, as when an upload was cut off"
    return f"the file is not a video in a supported format ({FORMATS_IN_WORDS})"


def _missing_bytes(container: InputContainer, head: bytes, size_bytes: int) -> int:
    """Return how many bytes the container or its index names that the file does not have."""
    ends = [
        entry.pos + entry.size for stream in container.streams for entry in stream.index_entries
    ]
    return max(announced_end(head), *ends, size_bytes) - size_bytes


def _describe_what_is_there(
    container: InputContainer, size_bytes: int, missing: int
) -> pb.SourceInfo:
    try:
        info = _describe(container, size_bytes)
    except InvalidSource as error:
        if not missing:
            raise
        raise InvalidSource(
            f"the video is incomplete: its last {missing} bytes are missing"
        ) from error
    info.missing_bytes = missing
    return info


def _describe(container: InputContainer, size_bytes: int) -> pb.SourceInfo:
    video = _video_stream(container)
    sounds = _audio_streams(container)
    timing = find_timing(container, video, size_bytes)
    info = pb.SourceInfo(container=container.format.name)
    info.duration.CopyFrom(_duration(timing.frame_count / timing.rate))
    info.first_frame_time.CopyFrom(_duration(timing.first_time))
    info.video.CopyFrom(_describe_video(container, video, timing))
    examine(container, video, timing, info.video)
    described = [_describe_audio(sound, container, timing.first_time) for sound in sounds]
    info.audio_streams.extend(described[:MAX_AUDIO_STREAMS])
    if described:
        # The default one, else the first.
        info.audio.CopyFrom(max(described, key=lambda sound: (sound.default, -sound.index)))
    length = timing.frame_count / timing.rate
    info.chapters.extend(describe_chapters(container, timing.first_time, length))
    info.metadata.CopyFrom(describe_metadata(container, video))
    info.subtitle_streams.extend(describe_subtitles(container))
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


def _audio_streams(container: InputContainer) -> list[AudioStream]:
    """Return the streams that can be decoded."""
    return [
        stream
        for stream in container.streams.audio
        if stream.codec_context is not None and stream.rate > 0 and stream.channels > 0
    ]


def _describe_video(
    container: InputContainer, video: VideoStream, timing: Timing
) -> pb.VideoStream:
    frame = timing.first_frame
    told = _told(container, video)
    _refuse_dolby_vision_alone(told)
    width, height = _cropped(told, frame)
    sar = video.sample_aspect_ratio or Fraction(1)
    described = pb.VideoStream(
        index=video.index,
        codec=video.codec_context.name,
        width=width,
        height=height,
        rotation=_rotation(frame),
        sample_aspect_ratio=_rational(sar if sar > 0 else Fraction(1)),
        frame_rate=_rational(timing.rate),
        variable_frame_rate=timing.varies,
        frame_count=timing.frame_count,
        pixel_format=_pixel_format(video, frame),
        bit_depth=max(component.bits for component in frame.format.components),
        color_primaries=PRIMARIES.get(frame.color_primaries, ""),
        color_transfer=TRANSFERS.get(frame.color_trc, ""),
        color_space=MATRICES.get(frame.colorspace, ""),
        color_range=RANGES.get(frame.color_range, ""),
        bit_rate=video.bit_rate or 0,
        keyframes=timing.keyframes,
        field_order=_field_order(told, video, frame),
    )
    if timing.keyframe_interval is not None:
        described.max_keyframe_interval.CopyFrom(_duration(timing.keyframe_interval))
    return described


def _field_order(told: str, video: VideoStream, frame: VideoFrame) -> pb.FieldOrder.ValueType:
    """Return which field is shown first, by what the stream and its first picture say.

    FFmpeg makes pictures of each of HEVC's fields alone, which have no other to go with.
    """
    found = _FIELDS.search(told)
    if video.codec_context.name == "hevc" or not (found or frame.interlaced_frame):
        return pb.FIELD_ORDER_PROGRESSIVE
    bottom = found is not None and found[1] == "bottom"
    return pb.FIELD_ORDER_BOTTOM_FIRST if bottom else pb.FIELD_ORDER_TOP_FIRST


def _rotation(frame: VideoFrame) -> int:
    """Return clockwise degrees; matrices of other angles are not upright anyway.

    Reported are anticlockwise ones. A matrix that turns nothing, such as one of zeros, has no
    angle, which is reported as one far beyond a circle; FFmpeg leaves the picture as it is.
    """
    return round(-frame.rotation / 90) % 4 * 90 if abs(frame.rotation) <= 360 else 0


def _pixel_format(video: VideoStream, frame: VideoFrame) -> str:
    """Return what the pictures consist of.

    WebM keeps the transparency of VP8 and VP9 beside them, where the usual decoders do not look.
    """
    beside = video.metadata.get("alpha_mode") == "1" and video.codec_context.name in ("vp8", "vp9")
    name = frame.format.name
    return "yuva420p" if beside and name == "yuv420p" else name


def _told(container: InputContainer, video: VideoStream) -> str:
    """Return FFmpeg's description of a stream, which has what PyAV does not hand over."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    described: str = container.dumps_format()  # type: ignore[attr-defined]  # not in its stubs
    av.logging.set_level(level)
    for part in described.split("\n  Stream #0:"):
        if re.match(rf"{video.index}\b", part):
            return part
    return ""


def _cropped(told: str, frame: VideoFrame) -> tuple[int, int]:
    """Return the size of the pictures that FFmpeg makes of a stream.

    It heeds what matroska and mov cut off.
    """
    found = _CROPPING.search(told)
    left, right, above, below = map(int, found.groups()) if found else (0, 0, 0, 0)
    return frame.width - left - right, frame.height - above - below


def _refuse_dolby_vision_alone(told: str) -> None:
    """Raise where pictures are in colours that only Dolby Vision's own decoders know.

    Those of profile 5: others are HDR10, HLG or SDR to whom it is unknown.
    """
    found = _DOLBY_VISION.search(told)
    if found is not None and int(found[1]) == 0:
        raise InvalidSource(
            "the video is in Dolby Vision without pictures for other players (profile 5), "
            "which cannot be exported"
        )


def _describe_audio(
    audio: AudioStream, container: InputContainer, first_frame_time: Fraction
) -> pb.AudioStream:
    tick = audio.time_base or Fraction(1, audio.rate)
    first = first_frame_time if audio.start_time is None else audio.start_time * tick
    if audio.duration:
        length = audio.duration * tick
    else:
        length = Fraction(container.duration or 0, av.time_base)
    # mov and mp4 call it the name.
    title = audio.metadata.get("title") or audio.metadata.get("name") or ""
    described = pb.AudioStream(
        index=audio.index,
        codec=audio.codec_context.name,
        sample_rate=audio.rate,
        channels=audio.channels,
        channel_layout=audio.layout.name,
        bit_rate=audio.bit_rate or 0,
        language=language(audio.metadata.get("language", "")),
        title=clean(title, MAX_TITLE),
        default=bool(audio.disposition & Disposition.default),
    )
    described.first_sample_time.CopyFrom(_duration(first))
    described.duration.CopyFrom(_duration(length))
    return described


def _rational(value: Fraction) -> pb.Rational:
    return pb.Rational(numerator=value.numerator, denominator=value.denominator)


def _duration(seconds: Fraction) -> Duration:
    """Return a time on a source's clock, which may be before zero, unlike any of an output."""
    nanos = round(seconds * 10**9)
    whole, rest = divmod(abs(nanos), 10**9)
    sign = -1 if nanos < 0 else 1
    return Duration(seconds=sign * whole, nanos=sign * rest)
