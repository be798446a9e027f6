"""Every codec in every container, sound alone, and HDR that is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.common.codecs import CONTAINERS, NAMES, VP9
from tests.media.corner_marks import Stored
from tests.media.patches import with_dolby_vision
from tests.media.recipes.coding import HEVC
from tests.media.recipes.recipe import PLAIN, Changed, Recipe, Refused, Remade
from videoexport.v1 import export_pb2 as pb

CODECS = {
    pb.VIDEO_CODEC_H264: "h264",
    pb.VIDEO_CODEC_HEVC: "hevc",
    pb.VIDEO_CODEC_AV1: "av1",
    pb.VIDEO_CODEC_VP9: "vp9",
}
SDR = "bt709/bt709/bt709/tv"
# What HDR's curves make of the colours does not matter: as they are coded they must come out.
DEEP = replace(PLAIN, colours=Stored("bt2020nc"), pixel_format="yuv420p10le", encoder=HEVC)
MUTE = replace(PLAIN, clicks=None)
PARTS = ((0, 100), (37, 38), (37, 90), (76, 100))


def _case(name: str, source: Any, settings: pb.ExportSettings, **more: Any) -> Recipe:
    # Only H.264, HEVC and AV1 are made by GPUs, and pictures alone.
    gpu = bool(CONTAINERS[settings.format].codecs) and settings.video_codec != VP9
    return Recipe(
        name=name, topic="codecs", source=source, settings=settings, **{"gpu": gpu} | more
    )


def _hdr(transfer: int) -> Remade:
    bsf = f"hevc_metadata=transfer_characteristics={transfer}"
    return Remade(of=(DEEP,), arguments=("-c", "copy", "-bsf:v", bsf, "-tag:v", "hvc1"))


def _dolby_vision(compatibility: int, transfer: int) -> Changed:
    return Changed(
        of=(_hdr(transfer),), how=lambda content: with_dolby_vision(content, 8, compatibility)
    )


def _kept(name: str, source: Any, curve: str, codec: pb.VideoCodec.ValueType) -> Recipe:
    form = pb.FORMAT_WEBM if codec == VP9 else pb.FORMAT_MP4
    settings = pb.ExportSettings(
        format=form, video_codec=codec, dynamic_range=pb.DYNAMIC_RANGE_KEEP
    )
    stored = f"{CODECS[codec]} yuv420p10le bt2020/{curve}/bt2020nc/tv"
    return _case(f"{name} kept in {NAMES[codec]}", source, settings, shows=DEEP, stored=stored)


def _refused(name: str, source: Any, words: str, **settings: Any) -> Recipe:
    refused = Refused(reason="INVALID_REQUEST", words=words)
    given = pb.ExportSettings(**settings)
    return Recipe(name=name, topic="codecs", source=source, settings=given, refused=refused)


CODEC: tuple[Recipe, ...] = (
    *(
        _case(
            f"{NAMES[codec]} in {container.name}{how}",
            PLAIN,
            pb.ExportSettings(format=form, video_codec=codec),
            stored=f"{CODECS[codec]} yuv420p {SDR}",
            **more,
        )
        for form, container in CONTAINERS.items()
        for codec in container.codecs
        for how, more in (
            ("", {}),
            (", in parts", {"segments": PARTS, "chunk_seconds": 1.0}),
        )
    ),
    _case("sound alone in M4A", PLAIN, pb.ExportSettings(format=pb.FORMAT_M4A)),
    *(
        _kept(name, source, curve, codec)
        for name, source, curve in (
            ("HDR10", _hdr(16), "smpte2084"),
            ("HLG", _hdr(18), "arib-std-b67"),
        )
        for codec in (pb.VIDEO_CODEC_HEVC, pb.VIDEO_CODEC_AV1, VP9)
    ),
    _kept("Dolby Vision on HDR10", _dolby_vision(1, 16), "smpte2084", pb.VIDEO_CODEC_HEVC),
    _kept("Dolby Vision on HLG", _dolby_vision(4, 18), "arib-std-b67", pb.VIDEO_CODEC_HEVC),
    _kept("BT.2020 of SDR", DEEP, "bt2020-10", pb.VIDEO_CODEC_AV1),
    _case(
        "SDR of 8 bits kept",
        PLAIN,
        pb.ExportSettings(
            video_codec=pb.VIDEO_CODEC_HEVC,
            dynamic_range=pb.DYNAMIC_RANGE_KEEP,
            format=pb.FORMAT_MP4,
        ),
        stored=f"hevc yuv420p {SDR}",
    ),
    _refused("sound alone of a silent source", MUTE, "has no sound", format=pb.FORMAT_M4A),
)
