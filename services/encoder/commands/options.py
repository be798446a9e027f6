"""Options of FFmpeg runs and of their inputs, and the reason for each that is not obvious. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from fractions import Fraction
from pathlib import Path

from services.common.frames import rate_of
from services.encoder.commands.containers import MP4_FORMAT, WEBM_FORMAT
from services.encoder.commands.fields import PICTURES_BEFORE, has_fields
from services.encoder.commands.filters import Timeline
from videoexport.v1 import export_pb2 as pb

# Decoders that heed what WebM keeps beside pictures that can be seen through.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

# A damaged index may announce any size; the largest honest one is far below.
MAX_ALLOC_BYTES = 512 << 20
# 8192 × 8192, which the probe allows; a stream may change its size after it.
MAX_PIXELS = 1 << 26
# The gateway retries and backs off for 30 s before it gives up on S3; FFmpeg
# waits a little longer than that, and far shorter when the gateway has given up.
RW_TIMEOUT_MICROSECONDS = 45_000_000

# How much earlier than its first frame a reading begins, in seconds, by container, for its
# index leads to a place from which not all can be decoded. In mov and mp4 a seek takes the
# first frame's delay for that of all: where more pictures are coded ahead of their turn, it
# leads to a keyframe that is shown too late (12 of 175 cuts of x265's defaults). In matroska
# the sound of the first pictures may lie in the cluster before theirs.
SEEK_MARGINS = {MP4_FORMAT: Fraction(1, 2), WEBM_FORMAT: Fraction(1, 4)}
# The most pictures that codecs code ahead of their turn, H.264's and HEVC's 16, and one.
REORDERED_FRAMES = 17
# A decoder of sound is quiet for up to 71 ms (MP3) or 80 ms (Opus).
SOUND_MARGIN = Fraction(1, 10)
# Without an index, timestamps are searched that need not be a keyframe's: seeking exactly hit
# a wrong frame in 22 of 25 cuts of a ts. x264 and x265 put keyframes up to 250 frames apart.
DEFAULT_SEEK_MARGIN = Fraction(12)

# Inputs beyond this many get one decoder thread each.
DECODER_THREADS = 8


def global_options(ffmpeg: Path, *, tolerant: bool = False, quiet: bool = False) -> list[str]:
    """Return what every run begins with.

    Args:
        tolerant: whether what cannot be decoded is passed over.
        quiet: whether it does not even warn of that.
    """
    # A cut connection or a damaged packet must end the run, not shorten the file. One that may
    # pass over damage ends by nothing that it reads; what it says meanwhile is but a warning.
    errors = ["-max_error_rate", "1"] if tolerant else ["-xerror"]
    level = "warning" if tolerant and not quiet else "error"
    return [
        *(str(ffmpeg), "-nostdin", "-y", "-hide_banner", "-loglevel", level, "-nostats"),
        *("-progress", "pipe:1", "-stats_period", "0.5"),
        *errors,
        *("-max_alloc", str(MAX_ALLOC_BYTES)),
    ]


def first_read(
    info: pb.SourceInfo, rate: Fraction, start: int, *, sound: bool, least_margin: Fraction
) -> Fraction:
    """Return where a reading begins, in frames of the grid: at or before its first frame.

    That is a keyframe where one is known within the margin, for it needs nothing before it.

    Args:
        rate: frames per second of the grid.
        start: the first frame that is needed.
        sound: whether sound is read, too.
        least_margin: seconds that it begins early at the least.
    """
    video = info.video
    own_rate = rate_of(video.frame_rate)
    margin = DEFAULT_SEEK_MARGIN
    if video.HasField("max_keyframe_interval"):
        usual = SEEK_MARGINS.get(info.container, DEFAULT_SEEK_MARGIN)
        margin = max(usual, REORDERED_FRAMES / own_rate)
    earliest = start - max(margin, least_margin) * rate
    needed = SOUND_MARGIN if sound else Fraction(0)
    if has_fields(info):
        needed = max(needed, PICTURES_BEFORE / own_rate)
    latest = start - max(needed, least_margin) * rate
    place = bisect_right(video.keyframes, latest * own_rate / rate)
    if place and (keyframe := video.keyframes[place - 1] * rate / own_rate) >= earliest:
        return keyframe
    return earliest


def source_input(
    url: str,
    info: pb.SourceInfo,
    timeline: Timeline,
    first: Fraction,
    *,
    threads: int,
    on_cpu: bool,
    begins: int = 0,
    changed_sound: bool = True,
) -> list[str]:
    """Return the options of one input of a source and its URL.

    Args:
        url: the source as the gateway serves it, on loopback HTTP, without secrets.
        first: where to begin, in frames of the grid; not after `begins` is the beginning.
        threads: of its decoder.
        on_cpu: whether the pictures stay there.
        begins: frame of the grid that what is read begins with.
        changed_sound: whether sound of other channels or another rate than the first is read.
    """
    options = [
        *("-protocol_whitelist", "http,tcp"),
        # Only what the probe found: a playlist or a script is never followed.
        *("-format_whitelist", info.container),
        *("-max_pixels", str(MAX_PIXELS), "-http_proxy", ""),
        *("-rw_timeout", str(RW_TIMEOUT_MICROSECONDS), "-max_redirects", "0"),
        *("-reconnect", "1", "-reconnect_on_network_error", "1", "-reconnect_delay_max", "2"),
        # A request costs little on loopback, and what is asked for is read from S3 although
        # it may not be used: 1 and 2 MB read twice as much for three cuts of 4 s.
        *("-multiple_requests", "1"),
        *("-initial_request_size", "65536", "-request_size", "65536"),
        *("-threads", str(threads)),
    ]
    if info.video.pixel_format.startswith("yuva") and info.video.codec in ALPHA_DECODERS:
        options += [f"-c:{info.video.index}", ALPHA_DECODERS[info.video.codec]]
    if on_cpu:
        # The filters take pictures of every size and colour. A graph that is begun anew counts
        # from zero, which ends the run; on the GPU it must, for a size is settled there once.
        options += ["-reinit_filter:v", "0"]
    if not changed_sound:
        options += ["-drop_changed:a", "1"]
    if first > begins:
        # A quarter of a frame late, lest rounding miss a keyframe that is the first frame.
        target = timeline.time(first) + 1 / timeline.rate / 4
        if target > timeline.time(begins):
            # Not "accurate": the graph needs the picture that shows at its start,
            # which may have begun earlier.
            options += ["-seek_timestamp", "1", "-noaccurate_seek", "-ss", f"{float(target):.6f}"]
    return [*options, "-i", url]


def devices(family: pb.EncoderFamily.ValueType) -> list[str]:
    """Return what opens the GPU where one encodes."""
    if family == pb.ENCODER_FAMILY_NVENC:
        return ["-init_hw_device", "cuda=gpu", "-filter_hw_device", "gpu"]
    return []


def escaped(path: Path) -> str:
    """Return a path as the value of an option in a graph: quoted for both of its parsers."""
    option = re.sub(r"([\\':])", r"\\\1", str(path))
    return re.sub(r"([\\'\[\],;])", r"\\\1", option)
