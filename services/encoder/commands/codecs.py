"""Options of the codecs, and the reason for each that is not obvious. Pure.

Each codec is used so that files of the same settings join without encoding again: closed
GOPs, and all that the container's head says of the pictures following from the settings alone.
Threads are pinned, for with others some codecs make other bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TypeAlias

from services.common.codecs import AV1, H264, HEVC, VP9
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

Family: TypeAlias = "pb.EncoderFamily.ValueType"
Codec: TypeAlias = "pb.VideoCodec.ValueType"

ENCODER_NAMES: Mapping[Family, Mapping[Codec, str]] = {
    pb.ENCODER_FAMILY_CPU: {
        H264: "libx264",
        HEVC: "libx265",
        AV1: "libsvtav1",
        VP9: "libvpx-vp9",
    },
    pb.ENCODER_FAMILY_NVENC: {H264: "h264_nvenc", HEVC: "hevc_nvenc", AV1: "av1_nvenc"},
}

# What looks as good as H.264's at each quality, measured: docs/quality.md.
CRF: Mapping[Codec, Mapping[pb.Quality.ValueType, float]] = {
    H264: {pb.QUALITY_HIGH: 18, pb.QUALITY_MEDIUM: 23, pb.QUALITY_LOW: 28},
    HEVC: {pb.QUALITY_HIGH: 16, pb.QUALITY_MEDIUM: 22, pb.QUALITY_LOW: 27},
    AV1: {pb.QUALITY_HIGH: 18, pb.QUALITY_MEDIUM: 34, pb.QUALITY_LOW: 49.75},
    VP9: {pb.QUALITY_HIGH: 16, pb.QUALITY_MEDIUM: 27, pb.QUALITY_LOW: 37},
}
# NVENC's constant quality, which this project has no GPU to measure. For H.264 a step above CRF
# is the usual correspondence; HEVC counts like it, AV1 up to 63 instead of 51.
CQ: Mapping[Codec, Mapping[pb.Quality.ValueType, int]] = {
    H264: {pb.QUALITY_HIGH: 19, pb.QUALITY_MEDIUM: 24, pb.QUALITY_LOW: 29},
    HEVC: {pb.QUALITY_HIGH: 19, pb.QUALITY_MEDIUM: 24, pb.QUALITY_LOW: 29},
    AV1: {pb.QUALITY_HIGH: 24, pb.QUALITY_MEDIUM: 30, pb.QUALITY_LOW: 37},
}
SOUND_ENCODER = "aac"
AUDIO_BIT_RATE = "192k"
OPUS_BIT_RATE = "160k"
# Pictures from one keyframe to the next at the most, as libx264 and libx265 have it by themselves.
# The others are told: they would put them 128 (libvpx) or some 160 (SVT-AV1) apart, and NVENC as
# far as the version of FFmpeg says.
_GOP = "250"
# Pictures that libx264, libx265 and NVENC decode ahead of the first, as B-frames refer to them.
PICTURES_AHEAD = 2
# More frames at a time make x265 no faster, and its rate control coarser.
_MOST_X265_FRAMES = 4
# SVT-AV1 counts in levels of parallelism, up to 6. Of 3840 × 2160 in 10 bits it takes 1.8 GB with
# 2, 2.9 with 4, and with 6 more than the 4 GiB that an encode may.
_MOST_SVT_LEVEL = 3


def encoder_name(family: Family, codec: Codec) -> str:
    """Return the implementation of a codec; versions of before name none and mean H.264."""
    return ENCODER_NAMES[family][codec or H264]


def video_codec(
    family: Family,
    codec: Codec,
    quality: pb.Quality.ValueType,
    *,
    threads: int,
    stitchable: bool,
    ten_bit: bool = False,
) -> list[str]:
    """Return the codec of the pictures.

    Args:
        threads: of an encode on the CPU; other counts may give other bytes.
        stitchable: whether files of the same settings are to be joined without encoding again.
        ten_bit: whether the pictures have 10 bits.
    """
    codec = codec or H264
    quality = quality or pb.QUALITY_MEDIUM
    crf = CRF[codec][quality]
    options = ["-c:v", encoder_name(family, codec)]
    if family == pb.ENCODER_FAMILY_NVENC:
        options += _nvenc(codec, CQ[codec][quality], ten_bit=ten_bit)
    elif codec == H264:
        options += ["-preset", "medium", "-crf", str(crf)]
        if stitchable:
            # Parameter sets that are the same in every part.
            options += ["-x264-params", "stitchable=1"]
        options += ["-threads:v", str(threads)]
    elif codec == HEVC:
        options += _x265(crf, threads)
    elif codec == AV1:
        options += _svt_av1(crf, threads)
    else:
        options += _vp9(crf, threads)
    options += _tag(codec)
    # Frames are already on the grid and counted; nothing may be repeated or dropped
    # after it. Not with -frames:v: reaching it drops the last frame of sound.
    return [*options, "-fps_mode:v", "passthrough", "-flags:v", "+bitexact"]


def _nvenc(codec: Codec, quality: int, *, ten_bit: bool) -> list[str]:
    profile = {H264: ["-profile:v", "high"], HEVC: ["-profile:v", "main10" if ten_bit else "main"]}
    return [
        *("-preset", "p5", "-tune", "hq", *profile.get(codec, [])),
        *("-rc", "vbr", "-cq", str(quality), "-b:v", "0", "-g", _GOP),
    ]


def _x265(crf: float, threads: int) -> list[str]:
    params = {
        "pools": threads,
        "frame-threads": min(threads, _MOST_X265_FRAMES),
        # As libx264 does, it gives flat and noisy parts their share; by itself x265 would smooth
        # noise away, which looks better in still parts and worse in all others.
        "aq-mode": 1,
        "aq-strength": 0.8,
        "sao": 0,
        # A keyframe is then a place to begin at, as in x264's output.
        "open-gop": 0,
        # Its version and all of its settings would go into the file.
        "info": 0,
        "log-level": "error",
    }
    told = ":".join(f"{name}={value}" for name, value in params.items())
    # Dolby Vision's own data would not fit other pictures; its base is complete without.
    return ["-preset", "fast", "-crf", str(crf), "-x265-params", told, "-dolbyvision", "0"]


def _svt_av1(crf: float, threads: int) -> list[str]:
    params = {
        # It knows quarters, which FFmpeg's own option does not.
        "crf": crf,
        "lp": min(threads, _MOST_SVT_LEVEL),
        # For eyes, not for PSNR; dark and flat parts get their share, and what would smooth noise
        # away is off: by itself SVT-AV1 makes still pictures better than libx264 does and noisy
        # ones worse, by more than two points of VMAF either way.
        "tune": 0,
        "enable-variance-boost": 1,
        "variance-boost-strength": 3,
        "enable-cdef": 0,
        "enable-restoration": 0,
        # With more, still pictures are better yet.
        "hierarchical-levels": 3,
    }
    told = ":".join(f"{name}={value}" for name, value in params.items())
    return [
        *("-preset", "8", "-g", _GOP),
        *("-svtav1-params", told, "-dolbyvision", "0"),
    ]


def _vp9(crf: float, threads: int) -> list[str]:
    return [
        *("-deadline", "good", "-cpu-used", "4", "-crf", str(crf), "-b:v", "0", "-g", _GOP),
        *("-auto-alt-ref", "1", "-lag-in-frames", "25"),
        # As many tiles as the width has room for, whatever the threads; these take tiles. Rows
        # would keep more of them busy, but libvpx promises no equal bits for that.
        *("-tile-columns", "6", "-row-mt", "0", "-threads:v", str(threads)),
    ]


def copied_pictures(codec: Codec) -> list[str]:
    """Return the options of pictures that are taken over as they are."""
    return ["-c:v", "copy", *_tag(codec)]


def joined_pictures(codec: Codec, rate: Fraction, ahead: int = PICTURES_AHEAD) -> list[str]:
    """Return the options of pictures of several files that are taken over as one.

    Args:
        rate: frames per second.
        ahead: how many frames ahead of when they show pictures are decoded, at the most.
    """
    options = copied_pictures(codec)
    if (codec or H264) in (H264, HEVC):
        # Files are decoded differently far ahead of when they show, one of a picture or two not
        # at all; the clock of that must not go back where they meet.
        options += ["-bsf:v", f"setts=pts=PTS:dts=round((N-{ahead})/({rate})/TB)"]
    return options


def _tag(codec: Codec) -> list[str]:
    # Apple's players open no other; parameter sets are then in the file's head alone.
    return ["-tag:v", "hvc1"] if codec == HEVC else []


def audio_codec(codec: task_pb2.AudioCodec.ValueType, *, lossless: bool = False) -> list[str]:
    """Return the codec of the sound, or that of an intermediate step."""
    if lossless:
        return ["-c:a", "pcm_f32le"]
    if codec == task_pb2.AUDIO_CODEC_OPUS:
        return ["-c:a", "libopus", "-b:a", OPUS_BIT_RATE, "-flags:a", "+bitexact"]
    return ["-c:a", SOUND_ENCODER, "-b:a", AUDIO_BIT_RATE, "-flags:a", "+bitexact"]
