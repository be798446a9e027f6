"""The recipe's version goes up whenever the command builder makes something else."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from services.common.content_key import RECIPE_VERSION
from services.common.sound import LEFT, RIGHT
from services.encoder.commands.builder import audio_commands, video_commands
from services.encoder.commands.codecs import ENCODER_NAMES
from services.encoder.commands.cues import Cue, Cues
from services.encoder.commands.ffmpeg_command import ChangedSound, FfmpegCommand, Site
from services.encoder.commands.fonts import font_folders
from services.encoder.commands.loudness import (
    Aim,
    Draft,
    Measured,
    level_command,
    measure_command,
    tag_command,
)
from services.encoder.tasks.watermark import mark_command
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

SITE = Site(Path("/ffmpeg"), "http://127.0.0.1:1/source", 2, Path("/scratch"))

# What each version makes of the sources below. A change of the command builder that shows
# here makes other bits: parts that earlier versions have stored must not be taken for its
# own. Raise RECIPE_VERSION, and write the new digest here.
DIGESTS = {
    1: "b3569adf00fd422ce58d13acc0ceffcc224966456dee2ec76aff58eacb901b45",
    2: "1db9754c2e4138c59f5690e9c5613f657b7c172fc28fd5429062b6531509ab2b",
}

# Of sources whose pictures are copied, while those beside the cuts are encoded: in High profile
# and in Baseline.
CONFIGURATIONS = (
    "01640028ffe1001b67640028acd940780227e5c044000003000400000300c83c60c65801000668e938f2c8b0fdf8f800",
    "0142c01effe100186742c01edb0280f6c044000003000400000300c83c58bb8001000568ca83cb20",
)
# Of a source that says how its subtitles look, and of one that does not.
CUES = (
    Cues(
        (Cue(Fraction(5), Fraction(7), "Hello"), Cue(Fraction(6), Fraction(8), r"{\an8}{\i1}you"))
    ),
    Cues((Cue(Fraction(5), Fraction(7), "Hello", 1, "Loud"),), "[Script Info]\nPlayResX: 384"),
)
QUALITIES = (pb.QUALITY_HIGH, pb.QUALITY_MEDIUM, pb.QUALITY_LOW)


def sources() -> list[pb.SourceInfo]:
    """Return sources that together take every way through the builder."""
    plain = pb.SourceInfo(
        container="mov,mp4,m4a,3gp,3g2,mj2",
        first_frame_time=Duration(nanos=80_000_000),
        video=pb.VideoStream(
            width=1920,
            height=1080,
            frame_rate=pb.Rational(numerator=25, denominator=1),
            frame_count=5000,
            bit_depth=8,
            pixel_format="yuv420p",
            max_keyframe_interval=Duration(seconds=2),
            keyframes=[0],
        ),
        audio=pb.AudioStream(index=1, sample_rate=44_100, channels=6),
    )
    found = [plain]
    for container, pixels, transfer, rotation in (
        ("matroska,webm", "yuv420p10le", "smpte2084", 0),
        ("matroska,webm", "yuva420p", "", 0),
        ("mpegts", "rgb24", "", 90),
    ):
        other = pb.SourceInfo()
        other.CopyFrom(plain)
        other.container = container
        other.video.pixel_format, other.video.rotation = pixels, rotation
        other.video.codec, other.video.color_transfer = "vp9", transfer
        other.video.variable_frame_rate = rotation == 90
        if container == "mpegts":
            other.time_breaks.add(position=188, frame=150)
            other.size_bytes = 1000
        if transfer:
            other.video.field_order = pb.FIELD_ORDER_TOP_FIRST
        other.video.sample_aspect_ratio.CopyFrom(pb.Rational(numerator=4, denominator=3))
        if rotation:
            other.video.ClearField("max_keyframe_interval")
        found.append(other)
    return found


def beside_copies(info: pb.SourceInfo, rate: pb.Rational) -> list[FfmpegCommand]:
    commands: list[FfmpegCommand] = []
    for configuration in CONFIGURATIONS:
        chunk = task_pb2.VideoChunk(
            info=info,
            frame_rate=rate,
            start_frame=100,
            end_frame=120,
            width=1920,
            height=1080,
            quality=pb.QUALITY_SOURCE,
            family=pb.ENCODER_FAMILY_CPU,
        )
        chunk.info.video.avc_configuration = bytes.fromhex(configuration)
        for chunk.info.video.reordered_frames in (0, 1, 2):
            commands += video_commands(site=SITE, chunk=chunk)
    return commands


def everything() -> list[FfmpegCommand]:
    """Return every kind of run that makes parts."""
    commands: list[FfmpegCommand] = []
    rate = pb.Rational(numerator=25, denominator=1)
    spans = [
        task_pb2.FrameSpan(start_frame=start, end_frame=end)
        for start, end in ((0, 100), (100, 150), (2000, 2100), (120, 140))
    ]
    plain = sources()[0]
    for info in sources():
        for family in (pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC):
            looks = [(quality, pb.FIT_PAD) for quality in QUALITIES]
            looks += [(pb.QUALITY_MEDIUM, fit) for fit in (pb.FIT_CROP, pb.FIT_STRETCH)]
            for quality, fit in looks:
                for start in (0, 1000):
                    chunk = task_pb2.VideoChunk(
                        info=info,
                        frame_rate=rate,
                        start_frame=start,
                        end_frame=start + 200,
                        width=1280,
                        height=720,
                        fit=fit,
                        quality=quality,
                        family=family,
                    )
                    commands += video_commands(site=SITE, chunk=chunk)
                    again = replace(SITE, least_margin=Fraction(60))
                    commands += video_commands(site=again, chunk=chunk)
                    tolerant = replace(SITE, least_margin=Fraction(12), tolerant=True)
                    commands += video_commands(site=tolerant, chunk=chunk)
        for codec in (task_pb2.AUDIO_CODEC_UNSPECIFIED, task_pb2.AUDIO_CODEC_OPUS):
            track = task_pb2.Soundtrack(info=info, frame_rate=rate, spans=spans, codec=codec)
            commands += audio_commands(site=SITE, soundtrack=track)
            commands += audio_commands(site=replace(SITE, tolerant=True), soundtrack=track)
            for changed in (ChangedSound.PASSED_OVER, ChangedSound.EVENED):
                site = replace(SITE, changed_sound=changed)
                commands += audio_commands(site=site, soundtrack=track)
        commands += other_codecs(info, rate)
        commands += drawn_onto(info, rate)
    commands += beside_copies(plain, rate)
    return [*commands, *sounds(plain, rate, spans)]


def other_codecs(info: pb.SourceInfo, rate: pb.Rational) -> list[FfmpegCommand]:
    """Return what makes pictures of every codec and dynamic range."""
    commands: list[FfmpegCommand] = []
    for family, codecs in ENCODER_NAMES.items():
        for codec, quality, keep in itertools.product(codecs, QUALITIES, (False, True)):
            chunk = task_pb2.VideoChunk(
                info=info,
                frame_rate=rate,
                end_frame=200,
                width=1280,
                height=720,
                quality=quality,
                family=family,
                video_codec=codec,
                dynamic_range=pb.DYNAMIC_RANGE_KEEP if keep else pb.DYNAMIC_RANGE_SDR,
            )
            commands += video_commands(site=SITE, chunk=chunk)
    return commands


def drawn_onto(info: pb.SourceInfo, rate: pb.Rational) -> list[FfmpegCommand]:
    """Return what draws watermarks and subtitles, alone and together."""
    commands: list[FfmpegCommand] = []
    marks = [None, *(mark_at(position) for position in pb.WatermarkPosition.values())]
    for mark, cues in itertools.product(marks, (None, *CUES)):
        for family in (pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC):
            chunk = task_pb2.VideoChunk(
                info=info,
                frame_rate=rate,
                start_frame=100,
                end_frame=300,
                width=1280,
                height=720,
                family=family,
                watermark=mark,
                burnt_subtitles=None if cues is None else 2,
            )
            commands += video_commands(site=SITE, chunk=chunk, subtitles=cues)
        if mark is not None:
            size = (chunk.width, chunk.height)
            commands.append(mark_command(SITE.ffmpeg, SITE.url, mark, size, SITE.folder))
    return commands


def mark_at(position: pb.WatermarkPosition.ValueType) -> pb.Watermark:
    return pb.Watermark(position=position, margin=0.02, width=0.1, opacity=0.5)


def sounds(
    source: pb.SourceInfo, rate: pb.Rational, spans: list[task_pb2.FrameSpan]
) -> list[FfmpegCommand]:
    """Return what makes sounds of other kinds, and of other loudness."""
    commands: list[FfmpegCommand] = []
    for layout in ("5.1.4", LEFT):
        info = pb.SourceInfo()
        info.CopyFrom(source)
        info.audio.channel_layout, info.audio.channels = layout, 1 if layout == LEFT else 10
        info.audio_streams.append(info.audio)
        info.audio_streams.add(index=2, channels=1, channel_layout=RIGHT)
        track = task_pb2.Soundtrack(info=info, frame_rate=rate, spans=spans, loudness_lufs=-16)
        commands += audio_commands(site=SITE, soundtrack=track)
    draft, output = Draft(SITE.folder / "draft.mp4", 1000, None), SITE.folder / "o.mp4"
    commands.append(measure_command(SITE.ffmpeg, draft.path, 1000))
    for measured in (Measured(-30, 0.1), Measured(-20, 0.9)):
        commands.append(level_command(SITE.ffmpeg, draft, output, measured, Aim(-16)))
    commands.append(tag_command(SITE.ffmpeg, output, output, pb.Loudness()))
    return commands


def test_recipe_version_goes_up_when_commands_change() -> None:
    digest = hashlib.sha256()
    fonts = "|".join(re.escape(str(folder)) for folder in font_folders())
    for command in everything():
        for text in (*command.arguments, *command.scripts.values()):
            # Where the fonts lie makes no other bits.
            told = re.sub(fonts, "fonts", text)
            digest.update(told.encode() + b"\0")
    assert DIGESTS[RECIPE_VERSION] == digest.hexdigest()
    assert max(DIGESTS) == RECIPE_VERSION
