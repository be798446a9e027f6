"""Codecs and containers of outputs. Pure; free of gRPC, for the children that read media use it."""

from __future__ import annotations

from dataclasses import dataclass

from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


@dataclass(frozen=True, slots=True)
class Container:
    """A file format of outputs.

    Attributes:
        name: for people.
        suffix: of a file's name, without the dot.
        content_type: what browsers are told.
        codecs: of pictures, the default first; none where it holds sound alone.
        audio_codec: of the sound.
    """

    name: str
    suffix: str
    content_type: str
    codecs: tuple[pb.VideoCodec.ValueType, ...]
    audio_codec: task_pb2.AudioCodec.ValueType = task_pb2.AUDIO_CODEC_AAC


H264, HEVC = pb.VIDEO_CODEC_H264, pb.VIDEO_CODEC_HEVC
AV1, VP9 = pb.VIDEO_CODEC_AV1, pb.VIDEO_CODEC_VP9
CONTAINERS: dict[pb.Format.ValueType, Container] = {
    pb.FORMAT_MP4: Container("MP4", "mp4", "video/mp4", (H264, HEVC, AV1)),
    # How AV1 lies in a file is defined for MP4 alone.
    pb.FORMAT_MOV: Container("MOV", "mov", "video/quicktime", (H264, HEVC)),
    # VP9 is what every browser that plays WebM plays; AV1 is not, on Apple's older devices.
    pb.FORMAT_WEBM: Container("WebM", "webm", "video/webm", (VP9, AV1), task_pb2.AUDIO_CODEC_OPUS),
    pb.FORMAT_M4A: Container("M4A", "m4a", "audio/mp4", ()),
}
NAMES = {H264: "H.264", HEVC: "HEVC", AV1: "AV1", VP9: "VP9"}

# What a picture takes of the CPU, and of the file, beside H.264: measured at medium quality
# (docs/quality.md), good to a factor of two.
COST = {H264: 1.0, HEVC: 1.7, AV1: 1.2, VP9: 2.2}
SIZE = {H264: 1.0, HEVC: 0.8, AV1: 0.9, VP9: 0.8}
# Sound alone is counted in frames of pictures of this size.
SOUND_WIDTH, SOUND_HEIGHT = 1280, 720


def container_of(form: pb.Format.ValueType) -> Container:
    """Return the container of a format; versions of before name none."""
    return CONTAINERS[form or pb.FORMAT_MP4]


def codec_of(settings: pb.ExportSettings) -> pb.VideoCodec.ValueType:
    """Return the codec that valid settings come to; unspecified for sound alone."""
    codecs = container_of(settings.format).codecs
    return settings.video_codec or (codecs[0] if codecs else pb.VIDEO_CODEC_UNSPECIFIED)


def has_pictures(form: pb.Format.ValueType) -> bool:
    """Return whether files of a format have any."""
    return bool(container_of(form).codecs)


def is_ten_bit(video: pb.VideoStream, dynamic_range: pb.DynamicRange.ValueType) -> bool:
    """Return whether the pictures of an output have 10 bits rather than 8."""
    return dynamic_range == pb.DYNAMIC_RANGE_KEEP and video.bit_depth > 8


def picture_work(width: int, height: int, codec: pb.VideoCodec.ValueType) -> float:
    """Return what a frame takes of the CPU, in pixels of H.264; 0 × 0 pixels are sound alone."""
    return (width * height or SOUND_WIDTH * SOUND_HEIGHT) * COST[codec or H264]
