"""Whether a source's pictures can be copied as they are. Runs in a child process only.

Judged by the index and three keyframes, for a source may be long and far away. Whoever copies
pictures then looks at each of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideData
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.encoder.commands.colour import colour_of
from services.encoder.commands.containers import MP4_FORMAT
from services.encoder.commands.options import REORDERED_FRAMES
from services.encoder.formats.avc import BASELINE, HIGH, IDR, MAIN, Configuration, Damaged, units_of
from services.encoder.inspection.source_timing import Timing
from videoexport.v1 import export_pb2 as pb

_UPRIGHT = struct.pack("=9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
OPEN_GOPS = "groups of them need each other (open GOPs)"
# What the units that we make ourselves have before them.
LENGTH_BYTES = 4


def examine(
    container: InputContainer, video: VideoStream, timing: Timing, described: pb.VideoStream
) -> None:
    """Add to the description of a source how its pictures can be copied, or why they cannot."""
    try:
        found = _configuration(video)
        found.free_id()
        described.copy_obstacle = (
            _unfit_file(container, timing)
            or _unfit_coding(found, described)
            or _unfit_picture(described, timing.first_frame)
            or _unfit_keyframes(container, video, timing, found)
        )
    except Damaged as error:
        described.copy_obstacle = str(error)
    if not described.copy_obstacle:
        described.avc_configuration = found.to_bytes()
        described.reordered_frames = ahead_of(timing, video)


def _configuration(video: VideoStream) -> Configuration:
    if video.codec_context.name != "h264":
        raise Damaged(f"they are in {video.codec_context.name}, not in H.264")
    return Configuration.parse(video.codec_context.extradata or b"")


def _unfit_file(container: InputContainer, timing: Timing) -> str:
    """Return what keeps pictures from being copied in how the file tells of them."""
    if container.format.name != MP4_FORMAT:
        return "the file is neither MP4 nor MOV"
    if not timing.steady:
        return "the time between them varies, or the file's index does not tell of each"
    return ""


def _unfit_coding(found: Configuration, described: pb.VideoStream) -> str:
    """Return what keeps pictures from being copied in how they are coded."""
    first = found.first()
    if first.profile not in (BASELINE, MAIN, HIGH) or (first.chroma, first.bits) != (1, 8):
        return "they are in a profile of H.264 that few players know"
    if not first.progressive:
        return "they are interlaced"
    if found.length_bytes != LENGTH_BYTES:
        return "they are kept in an unusual way"
    if (first.width, first.height) != (described.width, described.height):
        return "the file shows only a part of each"
    return ""


def _unfit_picture(described: pb.VideoStream, frame: VideoFrame) -> str:
    """Return what has to be done to pictures before they are as an output's."""
    if described.rotation or not _is_upright(frame):
        return "they have to be turned upright"
    if described.sample_aspect_ratio.numerator != described.sample_aspect_ratio.denominator:
        return "their pixels are not square"
    if described.width % 2 or described.height % 2:
        return "they have an odd row or column"
    if colour_of(described).after:
        return "their colours are converted"
    return ""


def _is_upright(frame: VideoFrame) -> bool:
    """Return whether a picture is shown as it is: the rotation alone tells of no mirroring."""
    kept = cast(SideDataContainer, frame.side_data)  # its stub is another's
    try:
        return bytes(kept[SideData.DISPLAYMATRIX]) == _UPRIGHT
    except KeyError:
        return True


def _unfit_keyframes(
    container: InputContainer, video: VideoStream, timing: Timing, found: Configuration
) -> str:
    """Return what is wrong with the first, the middle and the last keyframe.

    In open GOPs these are no IDR pictures: what follows them may need what is before them.
    """
    if not timing.keyframes:
        return OPEN_GOPS
    ahead_of(timing, video)
    keyframes = timing.keyframes
    for frame in dict.fromkeys((keyframes[0], keyframes[len(keyframes) // 2], keyframes[-1])):
        packet = keyframe_at(container, video, timing.first_time + frame / timing.rate)
        if packet is None:
            # It shows later than in its turn: others come first that are decoded after it.
            return OPEN_GOPS
        problem = keyframe_problem(packet, found)
        if problem:
            return problem
    return ""


def ahead_of(timing: Timing, video: VideoStream) -> int:
    """Return how many frames ahead of when they show pictures are decoded.

    Raises:
        Damaged: that is not known, or more than there may be.
    """
    tick = video.time_base or Fraction(1)
    frames = round((timing.ahead or 0) * tick * timing.rate)
    if timing.ahead is None or not 0 <= frames < REORDERED_FRAMES:
        raise Damaged("the file does not tell when they are decoded")
    return frames


def keyframe_at(
    container: InputContainer, video: VideoStream, time: Fraction
) -> Packet[VideoStream] | None:
    """Return the keyframe that shows at a time on the container's clock, if there is one."""
    return next(packets_from(container, video, time), None)


def packets_from(
    container: InputContainer, video: VideoStream, time: Fraction
) -> Iterator[Packet[VideoStream]]:
    """Yield the packets from the keyframe on that shows at a time on the container's clock.

    None where there is no such. In mov and mp4 a seek takes the first frame's delay for that of
    all, so it may lead to one that shows later; it is then begun further ahead.
    """
    tick = video.time_base or Fraction(1)
    wanted = time / tick
    for margin in (Fraction(0), Fraction(1), Fraction(10)):
        container.seek(round(wanted - margin / tick), stream=video)
        for packet in container.demux(video):
            if packet.pts is None or packet.pts < wanted - 1:
                continue
            if packet.is_keyframe and packet.pts <= wanted + 1:
                yield packet
                yield from container.demux(video)
                return
            if packet.is_keyframe:
                break


def keyframe_problem(packet: Packet[VideoStream], found: Configuration) -> str:
    """Return why copying cannot begin with a keyframe."""
    kinds = {unit[0] & 0x1F for unit in units_of(bytes(packet), found.length_bytes)}
    if IDR not in kinds:
        return OPEN_GOPS
    return packet_problem(packet, found)


def packet_problem(packet: Packet[VideoStream], found: Configuration) -> str:
    """Return why a picture cannot be copied among others of its stream."""
    if packet.has_sidedata("new_extradata"):
        return "their parameters change on the way"
    if not all(found.holds(unit) for unit in units_of(bytes(packet), found.length_bytes)):
        return "their parameters change on the way"
    return ""
