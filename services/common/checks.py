"""What the name of a source and the settings of an export may be, wherever they arrive."""

from __future__ import annotations

import re

from google.protobuf.duration_pb2 import Duration

from services.common.caller import has_control_characters, is_id
from services.common.combinations import codec_violations
from services.common.errors import Violation, invalid_request
from services.common.planner import MAX_RATE, duration_problem, fraction_of
from services.common.stills import (
    DEFAULT_COLUMNS,
    DEFAULT_TILE_WIDTH,
    MAX_SHEET_WIDTH,
    POSTER_WIDTHS,
    SPRITE_COLUMNS,
    SPRITE_SECONDS,
    SPRITE_WIDTHS,
)
from videoexport.v1 import export_pb2 as pb

MAX_KEY_BYTES = 1024
# The quietest that counts as sound (ITU-R BS.1770), and louder than any broadcast or record is.
LOUDNESS_LUFS = (-70, -5)
# Of a watermark, by field.
WATERMARK_SHARES = {"margin": (0, 0.25), "width": (0.01, 1), "opacity": (0, 1)}
# What S3 servers accept, old names with capitals and underscores included.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,61}[A-Za-z0-9]")


def source_violations(source: pb.Source) -> list[Violation]:
    """Return what is wrong with the name of a source."""
    kind = source.WhichOneof("kind")
    if kind == "video_id":
        if is_id(source.video_id, "vid"):
            return []
        return [Violation("source.video_id", "must be vid_ and 32 hexadecimal digits")]
    if kind == "s3_object":
        return _s3_violations(source.s3_object)
    return [Violation("source", "name a video_id or an s3_object")]


def _s3_violations(s3_object: pb.S3Object) -> list[Violation]:
    violations = []
    if not _BUCKET.fullmatch(s3_object.bucket) or ".." in s3_object.bucket:
        violations.append(
            Violation("source.s3_object.bucket", "must be 2 to 63 letters, digits or ._-")
        )
    key = s3_object.key
    if not key or len(key.encode()) > MAX_KEY_BYTES:
        violations.append(Violation("source.s3_object.key", f"must be 1 to {MAX_KEY_BYTES} bytes"))
    elif has_control_characters(key):
        violations.append(Violation("source.s3_object.key", "must not contain control characters"))
    elif any(step in ("", ".", "..") for step in key.split("/")):
        violations.append(
            Violation("source.s3_object.key", "must not contain empty, `.` or `..` steps")
        )
    return violations


def positive_seconds(field: str, duration: Duration) -> float:
    """Return a duration in seconds.

    Raises:
        DomainError: INVALID_REQUEST where it is negative or out of the type's range.
    """
    problem = duration_problem(duration)
    if problem is not None:
        raise invalid_request([Violation(field, problem)])
    return float(fraction_of(duration))


def watermark_violations(settings: pb.ExportSettings) -> list[Violation]:
    """Return what is wrong with the watermark that settings ask for."""
    if not settings.HasField("watermark"):
        return []
    watermark, path = settings.watermark, "settings.watermark"
    violations = [
        Violation(problem.field.replace("source", f"{path}.image", 1), problem.description)
        for problem in source_violations(watermark.image)
    ]
    if watermark.position not in pb.WatermarkPosition.values():
        violations.append(Violation(f"{path}.position", "is not a known value"))
    for name, (least, most) in WATERMARK_SHARES.items():
        # Not a number is in no range.
        if watermark.HasField(name) and not least <= getattr(watermark, name) <= most:  # type: ignore[arg-type]
            violations.append(Violation(f"{path}.{name}", f"must be from {least} to {most}"))
    return violations


def _still_violations(settings: pb.ExportSettings) -> list[Violation]:
    """Return what is wrong with poster and sprites whatever the output is."""
    violations = []
    for message, name in ((settings.poster, "time"), (settings.sprites, "interval")):
        path = f"settings.{'poster' if name == 'time' else 'sprites'}.{name}"
        duration = getattr(message, name)
        if (problem := duration_problem(duration)) is not None:
            violations.append(Violation(path, problem))
        elif name == "interval" and settings.sprites.HasField("interval"):
            least, most = SPRITE_SECONDS
            if not least <= fraction_of(duration) <= most:
                violations.append(Violation(path, f"must be from {least} to {most} s"))
    for path, value, (least, most) in (
        ("poster.width", settings.poster.width, POSTER_WIDTHS),
        ("sprites.columns", settings.sprites.columns, SPRITE_COLUMNS),
        ("sprites.tile_width", settings.sprites.tile_width, SPRITE_WIDTHS),
    ):
        if value and not least <= value <= most:
            violations.append(Violation(f"settings.{path}", f"must be from {least} to {most}"))
    columns = settings.sprites.columns or DEFAULT_COLUMNS
    if columns * (settings.sprites.tile_width or DEFAULT_TILE_WIDTH) > MAX_SHEET_WIDTH:
        problem = f"a sheet would be wider than {MAX_SHEET_WIDTH} pixels"
        violations.append(Violation("settings.sprites.columns", problem))
    return violations


def settings_violations(settings: pb.ExportSettings) -> list[Violation]:
    """Return what is wrong with settings; proto3 lets unknown enum numbers through."""
    enums = {
        "resolution": pb.Resolution,
        "quality": pb.Quality,
        "format": pb.Format,
        "encoder": pb.EncoderPreference,
        "fit": pb.Fit,
        "video_codec": pb.VideoCodec,
        "dynamic_range": pb.DynamicRange,
    }
    violations = [
        Violation(f"settings.{name}", "is not a known value")
        for name, kind in enums.items()
        if getattr(settings, name) not in kind.values()
    ]
    if settings.HasField("frame_rate"):
        rate = settings.frame_rate
        valid = rate.numerator > 0 and rate.denominator > 0
        if not valid or not 1 <= rate.numerator / rate.denominator <= MAX_RATE:
            violations.append(
                Violation("settings.frame_rate", f"must be from 1 to {MAX_RATE} frames per second")
            )
    gpu = settings.encoder == pb.ENCODER_PREFERENCE_GPU
    if gpu and settings.quality == pb.QUALITY_SOURCE:
        problem = "must not be GPU with QUALITY_SOURCE, whose cuts are encoded on the CPU"
        violations.append(Violation("settings.encoder", problem))
    if settings.audio_stream < 0:
        violations.append(Violation("settings.audio_stream", "must not be negative"))
    if settings.subtitles.stream < 0:
        violations.append(Violation("settings.subtitles.stream", "must not be negative"))
    if settings.subtitles.mode not in pb.SubtitleMode.values():
        violations.append(Violation("settings.subtitles.mode", "is not a known value"))
    violations += [*watermark_violations(settings), *_still_violations(settings)]
    least, most = LOUDNESS_LUFS
    # Not a number is in no range.
    if settings.HasField("loudness_lufs") and not least <= settings.loudness_lufs <= most:
        violations.append(
            Violation("settings.loudness_lufs", f"must be from {least} to {most} LUFS")
        )
    return [*violations, *codec_violations(settings)]
