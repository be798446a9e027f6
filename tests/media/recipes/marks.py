"""Watermarks: where they are, how much of them is seen, and nothing else changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.media.images import image
from tests.media.recipes.codecs import SDR
from tests.media.recipes.recipe import PLAIN, Recipe, Refused
from videoexport.v1 import export_pb2 as pb

GREEN = (0, 192, 0)
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
        "mark": ((210, 98, 8, 8), GREEN),
    }
    return Recipe(name=name, topic="watermark", **(given | more))


MARKS: tuple[Recipe, ...] = (
    _case("a PNG"),
    _case("a JPEG", image=lambda: image("jpg", "64x64", "0x00c000")),
    _case("a WebP", image=lambda: image("webp", "64x64", "0x00c000")),
    _case("in parts", chunk_seconds=0.8),
    *(
        _case(name, settings=settings(position=position), mark=((*place, 8, 8), GREEN))
        for name, position, place in (
            ("on the left, at the top", pb.WATERMARK_POSITION_TOP_LEFT, (38, 38)),
            ("on the right, at the top", pb.WATERMARK_POSITION_TOP_RIGHT, (210, 38)),
            ("on the left, at the bottom", pb.WATERMARK_POSITION_BOTTOM_LEFT, (38, 98)),
            ("in the middle", pb.WATERMARK_POSITION_CENTER, (124, 68)),
        )
    ),
    # Over the first digit of a number, which is black.
    *(
        _case(
            f"{words} seen{how}",
            settings=settings(position=pb.WATERMARK_POSITION_TOP_LEFT, opacity=opacity),
            image=lambda colour=colour: image("png", "64x64", colour),
            mark=((38, 38, 8, 8), shade),
        )
        for words, how, opacity, colour, shade in (
            ("half", "", 0.5, "0x00c000", (0, 96, 0)),
            ("half", ", of an image that is half seen through", 0.5, "0x00c000@0.5", (0, 48, 0)),
            ("not at all", "", 0.0, "0x00c000", (0, 0, 0)),
        )
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
