"""What an export asks of the encoders that take its tasks, beside what all of them do. Pure.

An encoder of the release before passes over what it does not know, and would deliver something
else than was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from services.common.codecs import H264, has_pictures
from services.common.colours import has_alpha, is_converted
from services.common.sound import pair_of
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb

# The recipe (services/common/content_key.py) that brought all that is named here.
_RECIPE = 2
_FIELDS = (pb.FIELD_ORDER_TOP_FIRST, pb.FIELD_ORDER_BOTTOM_FIRST)


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something that not every encoder can be asked for.

    Attributes:
        lane: whose encoders must know it.
        recipe: since which they do.
        name: for people.
    """

    lane: Lane
    recipe: int
    name: str


def requirements(info: pb.SourceInfo, plan: pb.Plan, lane: Lane) -> list[Requirement]:
    """Return what a plan asks for.

    Args:
        lane: of its pictures.
    """
    # Where it is made in parts, the sound and the assembly are for other encoders.
    found = [
        Requirement(each, _RECIPE, name)
        for name in _of_all(info, plan)
        for each in dict.fromkeys((lane, Lane.MUX))
    ]
    found += [Requirement(lane, _RECIPE, name) for name in _of_pictures(info, plan)]
    if plan.measure_quality:
        found.append(Requirement(Lane.CPU, _RECIPE, "measure_quality"))
    return found


def _of_all(info: pb.SourceInfo, plan: pb.Plan) -> Iterator[str]:
    """Yield what whoever makes any part of the output must know."""
    if plan.HasField("loudness_lufs"):
        yield "loudness_lufs"
    if plan.video_codec not in (pb.VIDEO_CODEC_UNSPECIFIED, H264):
        yield pb.VideoCodec.Name(plan.video_codec)
    if plan.format not in (pb.FORMAT_UNSPECIFIED, pb.FORMAT_MP4):
        yield pb.Format.Name(plan.format)
    if plan.quality == pb.QUALITY_SOURCE:
        yield "QUALITY_SOURCE"
    told = plan.metadata
    if told.has_location_and_device:
        yield "keep_location_and_device"
    if told.tags or told.chapters or told.video_language or told.audio_language:
        yield "tags, chapters and languages"
    for name in ("subtitles", "poster", "sprites"):
        if plan.HasField(name):
            yield name
    if info.time_breaks:
        yield "recordings whose clock jumps"
    if plan.has_audio and pair_of(info) is not None:
        yield "stereo in two streams"


def _of_pictures(info: pb.SourceInfo, plan: pb.Plan) -> Iterator[str]:
    """Yield what whoever makes pictures must know."""
    if not has_pictures(plan.format):
        return
    if plan.resolution == pb.RESOLUTION_SOURCE:
        # One of before would squeeze an odd last row or column in.
        yield "RESOLUTION_SOURCE"
    elif plan.fit not in (pb.FIT_UNSPECIFIED, pb.FIT_PAD):
        yield pb.Fit.Name(plan.fit)
    if plan.HasField("watermark"):
        yield "watermark"
    if info.video.field_order in _FIELDS:
        yield "interlaced sources"
    said = info.video
    if is_converted(said.color_primaries, said.color_transfer, said.color_space):
        yield "sources in HDR or wide gamuts"
    if has_alpha(info.video):
        yield "transparent sources"
