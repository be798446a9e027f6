"""Watermarks: where they are, how much of them is seen, and nothing else changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.media.images import image
from tests.media.recipes.codecs import SDR
from tests.media.recipes.recipe import PLAIN, Recipe, Refused
from videoexport.v1 import export_pb2 as pb

POSITION = pb.WATERMARK_POSITION_BOTTOM_RIGHT


def settings(**more: Any) -> pb.ExportSettings:
    """Return settings with a watermark that is small enough to leave the numbers readable."""
    named = pb.Source(video_id="vid_" + "0" * 32)
    given: dict[str, Any] = {"position": POSITION, "width": 0.03125, "margin": 0.15}
    return pb.ExportSettings(watermark=pb.Watermark(image=named, **(given | more)))


def _coded(
    codec: pb.VideoCodec.ValueType, form: pb.Format.ValueType = pb.FORMAT_MP4
) -> pb.ExportSettings:
    coded = settings()
    coded.video_codec, coded.format = codec, form
    return coded


def _case(name: str, **more: Any) -> Recipe:
    given: dict[str, Any] = {
        "source": PLAIN,
        "settings": settings(),
        "image": lambda: image("png", "64x64", "0x00c000"),
        "mark": ((210, 98, 8, 8), (0, 192, 0)),
    }
    return Recipe(name=name, topic="watermark", **(given | more))


MARKS: tuple[Recipe, ...] = (
    _case("a PNG"),
    _case("a JPEG", image=lambda: image("jpg", "64x64", "0x00c000")),
    _case("a WebP", image=lambda: image("webp", "64x64", "0x00c000")),
    _case("in parts", chunk_seconds=0.8),
    _case(
        "on the left, at the top",
        settings=settings(position=pb.WATERMARK_POSITION_TOP_LEFT),
        mark=((38, 38, 8, 8), (0, 192, 0)),
    ),
    _case("in HEVC", settings=_coded(pb.VIDEO_CODEC_HEVC), stored=f"hevc yuv420p {SDR}"),
    _case(
        "in VP9",
        settings=_coded(pb.VIDEO_CODEC_VP9, pb.FORMAT_WEBM),
        stored=f"vp9 yuv420p {SDR}",
        gpu=False,
    ),
    _case("over a varying rate", source=replace(PLAIN, durations=(1, 2, 1), frames=75)),
    _case(
        "that is no image",
        image=lambda: b"no image",
        mark=None,
        refused=Refused(reason="INVALID_WATERMARK", words="not a PNG, JPEG or WebP"),
    ),
)
