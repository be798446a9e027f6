"""Which settings of an export go together, and with its source. Pure."""

from __future__ import annotations

from services.common.codecs import CONTAINERS, H264, NAMES, Container, container_of, has_pictures
from services.common.errors import Violation
from videoexport.v1 import export_pb2 as pb


def codec_violations(settings: pb.ExportSettings) -> list[Violation]:
    """Return which settings do not go together, and why; unknown values are left out."""
    container = CONTAINERS.get(settings.format or pb.FORMAT_MP4)
    if container is None:
        return []
    if not container.codecs:
        return _picture_settings(container, settings)
    codec = settings.video_codec or container.codecs[0]
    violations = []
    if codec in NAMES and codec not in container.codecs:
        held = " or ".join(NAMES[each] for each in container.codecs)
        problem = f"{container.name} is made with {held}, not with {NAMES[codec]}"
        violations.append(Violation("settings.video_codec", problem))
    drawn = []
    if settings.subtitles.mode == pb.SUBTITLE_MODE_BURN_IN:
        drawn.append("subtitles")
    if settings.HasField("watermark"):
        drawn.append("watermark")
    if drawn:
        violations += _drawn(" and ".join(drawn), settings)
    if settings.fit not in (pb.FIT_UNSPECIFIED, pb.FIT_PAD) and _has_own_size(settings):
        problem = "the output has the source's own shape, so there is nothing to crop or to stretch"
        violations.append(Violation("settings.fit", problem))
    if settings.quality == pb.QUALITY_SOURCE and (container.name != "MP4" or codec != H264):
        problem = "QUALITY_SOURCE copies H.264 into MP4, so both must be what is asked for"
        violations.append(Violation("settings.quality", problem))
    if settings.dynamic_range == pb.DYNAMIC_RANGE_KEEP and codec == H264:
        problem = (
            "H.264 is made with 8 bits, in which HDR shows bands; choose HEVC, AV1 or VP9 as "
            "video_codec"
        )
        violations.append(Violation("settings.dynamic_range", problem))
    return violations


def _has_own_size(settings: pb.ExportSettings) -> bool:
    """Return whether an output has the size of its source."""
    own = settings.quality == pb.QUALITY_SOURCE and not settings.resolution
    return own or settings.resolution == pb.RESOLUTION_SOURCE


def _drawn(what: str, settings: pb.ExportSettings) -> list[Violation]:
    """Return which settings do not go with something that is drawn into the pictures."""
    problems = {
        "quality": f"QUALITY_SOURCE copies pictures as they are, without any {what} drawn in",
        "measure_quality": f"the source's pictures have no {what} in them to compare with",
        "dynamic_range": f"{what} would be drawn as bright as HDR can be; choose SDR",
    }
    given = {
        "quality": settings.quality == pb.QUALITY_SOURCE,
        "measure_quality": settings.measure_quality,
        "dynamic_range": settings.dynamic_range == pb.DYNAMIC_RANGE_KEEP,
    }
    return [
        Violation(f"settings.{name}", problem) for name, problem in problems.items() if given[name]
    ]


def sound_violations(info: pb.SourceInfo, settings: pb.ExportSettings) -> list[Violation]:
    """Return what is wrong with sound alone of a known source."""
    if has_pictures(settings.format) or info.HasField("audio"):
        return []
    problem = f"the source has no sound, and {container_of(settings.format).name} is sound alone"
    return [Violation("settings.format", problem)]


def _picture_settings(container: Container, settings: pb.ExportSettings) -> list[Violation]:
    """Return which settings of pictures are not at their defaults."""
    asked = {
        "resolution": settings.resolution,
        "fit": settings.fit not in (pb.FIT_UNSPECIFIED, pb.FIT_PAD),
        "quality": settings.quality,
        "video_codec": settings.video_codec,
        "dynamic_range": settings.dynamic_range == pb.DYNAMIC_RANGE_KEEP,
        "frame_rate": settings.HasField("frame_rate"),
        "encoder": settings.encoder == pb.ENCODER_PREFERENCE_GPU,
        "measure_quality": settings.measure_quality,
        "subtitles": settings.HasField("subtitles"),
        "watermark": settings.HasField("watermark"),
        "poster": settings.HasField("poster"),
        "sprites": settings.HasField("sprites"),
    }
    problem = f"{container.name} is sound alone, which has no such setting"
    return [Violation(f"settings.{name}", problem) for name, given in asked.items() if given]
