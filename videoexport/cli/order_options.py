"""The options that say what to make of a source, and what they become."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from google.protobuf.duration_pb2 import Duration

from videoexport.cli.arguments import (
    INT32_MAX,
    FrameRateType,
    LocalFile,
    SegmentType,
    SourceType,
    TimeType,
)
from videoexport.v1 import export_pb2

_RESOLUTIONS = {
    None: export_pb2.RESOLUTION_UNSPECIFIED,
    "480p": export_pb2.RESOLUTION_480P,
    "720p": export_pb2.RESOLUTION_720P,
    "1080p": export_pb2.RESOLUTION_1080P,
    "1440p": export_pb2.RESOLUTION_1440P,
    "2160p": export_pb2.RESOLUTION_2160P,
    "source": export_pb2.RESOLUTION_SOURCE,
}
_FITS = {
    "pad": export_pb2.FIT_PAD,
    "crop": export_pb2.FIT_CROP,
    "stretch": export_pb2.FIT_STRETCH,
}
_QUALITIES = {
    None: export_pb2.QUALITY_UNSPECIFIED,
    "high": export_pb2.QUALITY_HIGH,
    "medium": export_pb2.QUALITY_MEDIUM,
    "low": export_pb2.QUALITY_LOW,
    "source": export_pb2.QUALITY_SOURCE,
}
_FORMATS = {
    "mp4": export_pb2.FORMAT_MP4,
    "mov": export_pb2.FORMAT_MOV,
    "webm": export_pb2.FORMAT_WEBM,
    "m4a": export_pb2.FORMAT_M4A,
}
_CODECS = {
    None: export_pb2.VIDEO_CODEC_UNSPECIFIED,
    "h264": export_pb2.VIDEO_CODEC_H264,
    "hevc": export_pb2.VIDEO_CODEC_HEVC,
    "av1": export_pb2.VIDEO_CODEC_AV1,
    "vp9": export_pb2.VIDEO_CODEC_VP9,
}
_DYNAMIC_RANGES = {
    "sdr": export_pb2.DYNAMIC_RANGE_SDR,
    "keep": export_pb2.DYNAMIC_RANGE_KEEP,
}
_SUBTITLE_MODES = {
    "keep": export_pb2.SUBTITLE_MODE_KEEP,
    "burn-in": export_pb2.SUBTITLE_MODE_BURN_IN,
}
_POSITIONS = {
    "top-left": export_pb2.WATERMARK_POSITION_TOP_LEFT,
    "top-right": export_pb2.WATERMARK_POSITION_TOP_RIGHT,
    "bottom-left": export_pb2.WATERMARK_POSITION_BOTTOM_LEFT,
    "bottom-right": export_pb2.WATERMARK_POSITION_BOTTOM_RIGHT,
    "center": export_pb2.WATERMARK_POSITION_CENTER,
}
_ENCODERS = {
    "auto": export_pb2.ENCODER_PREFERENCE_AUTO,
    "cpu": export_pb2.ENCODER_PREFERENCE_CPU,
    "gpu": export_pb2.ENCODER_PREFERENCE_GPU,
}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made of a source.

    Attributes:
        image: of the watermark, where it is a file here that is to be uploaded.
        format_given: whether the format is what was asked for, or only the default.
    """

    segments: tuple[export_pb2.Segment, ...]
    settings: export_pb2.ExportSettings
    image: Path | None = None
    format_given: bool = False

    def name_format(self, output: Path) -> None:
        """Take the format from the name of the output, unless one is given.

        A name that says none leaves it at its default.
        """
        named = _FORMATS.get(output.suffix.lower().removeprefix("."))
        if named is not None and not self.format_given and not output.is_dir():
            self.settings.format = named


def order_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what to make, and pass them on as `order`."""

    @functools.wraps(function)
    def with_order(
        *args: Any,
        segments: tuple[export_pb2.Segment, ...],
        resolution: str | None,
        fit: str,
        quality: str | None,
        file_format: str | None,
        codec: str | None,
        dynamic_range: str,
        frame_rate: export_pb2.Rational | None,
        encoder: str,
        audio_stream: int | None,
        loudness: float | None,
        measure_quality: bool,
        keep_location_and_device: bool,
        subtitles: int | None,
        subtitle_mode: str | None,
        watermark: export_pb2.Source | LocalFile | None,
        watermark_position: str | None,
        watermark_margin: float | None,
        watermark_width: float | None,
        watermark_opacity: float | None,
        poster: bool,
        poster_time: Duration | None,
        poster_width: int | None,
        sprites: bool,
        sprite_interval: Duration | None,
        sprite_columns: int | None,
        sprite_width: int | None,
        **kwargs: Any,
    ) -> Any:
        settings = export_pb2.ExportSettings(
            resolution=_RESOLUTIONS[resolution],
            fit=_FITS[fit],
            quality=_QUALITIES[quality],
            format=_FORMATS[file_format or "mp4"],
            video_codec=_CODECS[codec],
            dynamic_range=_DYNAMIC_RANGES[dynamic_range],
            frame_rate=frame_rate,
            encoder=_ENCODERS[encoder],
            audio_stream=audio_stream,
            loudness_lufs=loudness,
            measure_quality=measure_quality,
            keep_location_and_device=keep_location_and_device,
        )
        if subtitles is not None:
            settings.subtitles.stream = subtitles
            settings.subtitles.mode = _SUBTITLE_MODES[subtitle_mode or "keep"]
        elif subtitle_mode is not None:
            raise click.UsageError("--subtitle-mode needs --subtitles, the stream that it is for.")
        # To ask for how is to ask for it.
        if poster or poster_time is not None or poster_width is not None:
            settings.poster.CopyFrom(
                export_pb2.PosterSettings(time=poster_time, width=poster_width or 0)
            )
        if sprites or (sprite_interval, sprite_columns, sprite_width) != (None, None, None):
            settings.sprites.CopyFrom(
                export_pb2.SpriteSettings(
                    interval=sprite_interval,
                    columns=sprite_columns or 0,
                    tile_width=sprite_width or 0,
                )
            )
        image = None
        if watermark is not None:
            settings.watermark.CopyFrom(
                export_pb2.Watermark(
                    position=_POSITIONS[watermark_position or "bottom-right"],
                    margin=watermark_margin,
                    width=watermark_width,
                    opacity=watermark_opacity,
                )
            )
            if isinstance(watermark, LocalFile):
                image = watermark.path
            else:
                settings.watermark.image.CopyFrom(watermark)
        elif (watermark_position, watermark_margin, watermark_width, watermark_opacity) != (
            *(None, None, None, None),
        ):
            raise click.UsageError("--watermark-… needs --watermark, the image that it is for.")
        order = Order(segments, settings, image, format_given=file_format is not None)
        return function(*args, order=order, **kwargs)

    options = (
        click.option(
            "--segment",
            "segments",
            type=SegmentType(),
            multiple=True,
            metavar="START-END",
            help="Part of the source, in seconds or HH:MM:SS.mmm; may be given many times, in "
            "output order. Default: the whole source.",
        ),
        click.option(
            "--resolution",
            type=click.Choice([name for name in _RESOLUTIONS if name]),
            help="Frame size. Default: 720p for sources of up to 720 lines, else 1080p; with "
            "the quality of the source its own.",
        ),
        click.option(
            "--fit",
            type=click.Choice(list(_FITS)),
            default="pad",
            show_default=True,
            help="What becomes of a picture of another shape: black bars around it, the frame "
            "filled and the rest cut off, or the frame filled out of shape. Only pad goes with the "
            "size of the source.",
        ),
        click.option(
            "--quality",
            type=click.Choice([name for name in _QUALITIES if name]),
            help="CRF 18, 23 or 28 of H.264, and what looks like it of others; or the source's own "
            "pictures, copied where that can be done and encoded only beside the cuts. Default: "
            "medium.",
        ),
        click.option(
            "--format",
            "file_format",
            type=click.Choice(list(_FORMATS)),
            help="File format; m4a is the sound alone. Default: the one that the file of --output "
            "is named for, else mp4.",
        ),
        click.option(
            "--codec",
            type=click.Choice([name for name in _CODECS if name]),
            help="Codec of the pictures: h264, hevc or av1 in mp4, h264 or hevc in mov, vp9 or av1 "
            "in webm. Default: h264, in webm vp9.",
        ),
        click.option(
            "--dynamic-range",
            type=click.Choice(list(_DYNAMIC_RANGES)),
            default="sdr",
            show_default=True,
            help="What becomes of HDR: tone-mapped to SDR, or kept, with hevc, av1 or vp9.",
        ),
        click.option(
            "--frame-rate",
            type=FrameRateType(),
            metavar="RATE",
            help="Frames per second, such as 25 or 30000/1001. Default: the source's own, at most "
            "60.",
        ),
        click.option(
            "--encoder",
            type=click.Choice(list(_ENCODERS)),
            default="auto",
            show_default=True,
            help="Which encoders may be used; auto is the GPU where there is one.",
        ),
        click.option(
            "--audio-stream",
            type=click.IntRange(0, INT32_MAX),
            metavar="N",
            help="Stream that the sound is of, by its number in `probe`. Default: the source's "
            "default one, else the first.",
        ),
        click.option(
            "--loudness",
            type=float,
            metavar="LUFS",
            help="Loudness of the output, -70 to -5, such as -16 for the web or -23 for broadcast "
            "(EBU R 128). Default: as loud as the source is.",
        ),
        click.option(
            "--measure-quality",
            is_flag=True,
            help="Compare the finished pictures with the source's (VMAF), up to a minute of them, "
            "before the export is completed. Default: no.",
        ),
        click.option(
            "--keep-location-and-device",
            is_flag=True,
            help="Have the output say where and with what the source was recorded. Default: no; "
            "title, authors, dates, chapters and languages are kept anyway.",
        ),
        click.option(
            "--subtitles",
            type=click.IntRange(0, INT32_MAX),
            metavar="N",
            help="Stream of subtitles that the output has, too, by its number in `probe`. "
            "Default: none.",
        ),
        click.option(
            "--subtitle-mode",
            type=click.Choice(list(_SUBTITLE_MODES)),
            help="Subtitles as text that players show or not, or drawn into the pictures. "
            "Default: keep.",
        ),
        click.option(
            "--watermark",
            type=SourceType(),
            metavar="IMAGE",
            help="PNG, JPEG or WebP that is drawn onto every picture: a file, which is uploaded, "
            "the id of an uploaded one, or s3://bucket/key.",
        ),
        click.option(
            "--watermark-position",
            type=click.Choice(list(_POSITIONS)),
            help="Where it is. Default: bottom-right.",
        ),
        click.option(
            "--watermark-margin",
            type=float,
            metavar="SHARE",
            help="Its distance from the edges, as a share of the frame's width. Default: 0.02.",
        ),
        click.option(
            "--watermark-width",
            type=float,
            metavar="SHARE",
            help="Its width, as a share of the frame's. Default: 0.15.",
        ),
        click.option(
            "--watermark-opacity",
            type=float,
            metavar="SHARE",
            help="How much of it is seen, from 0 to 1. Default: 1.",
        ),
        click.option("--poster", is_flag=True, help="Make a still picture, too, a JPEG."),
        click.option(
            "--poster-time",
            type=TimeType(),
            metavar="TIME",
            help="Which, as a time of the output. Default: the first that is not black.",
        ),
        click.option(
            "--poster-width",
            type=click.IntRange(1, INT32_MAX),
            metavar="N",
            help="Its width in pixels. Default: the output's.",
        ),
        click.option(
            "--sprites",
            is_flag=True,
            help="Make small pictures for the bar of a player, too: JPEG sheets and a WebVTT file.",
        ),
        click.option(
            "--sprite-interval",
            type=TimeType(),
            metavar="TIME",
            help="Distance of two small pictures. Default: 10 s, or more for long outputs.",
        ),
        click.option(
            "--sprite-columns",
            type=click.IntRange(1, INT32_MAX),
            metavar="N",
            help="Small pictures beside each other on a sheet. Default: 10.",
        ),
        click.option(
            "--sprite-width",
            type=click.IntRange(1, INT32_MAX),
            metavar="N",
            help="Width of a small picture in pixels. Default: 160.",
        ),
    )
    return functools.reduce(lambda inner, option: option(inner), reversed(options), with_order)


def is_named_otherwise(file: Path, suffix: str) -> bool:
    """Return whether the name of a file says that it has another format than that of a suffix."""
    said = file.suffix.lower()
    return said != suffix and said.removeprefix(".") in _FORMATS


def suffix_of(form: export_pb2.Format.ValueType) -> str:
    """Return what the name of a file of a format ends with."""
    names = {number: name for name, number in _FORMATS.items()}
    return f".{names.get(form, 'mp4')}"
