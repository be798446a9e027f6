"""What a request may say, checked field by field so that every violation is listed at once."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from services.api.planner import MAX_RATE, segment_violations
from services.common.caller import has_control_characters, is_id
from services.common.errors import Violation, invalid_request
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service

MAX_REQUEST_ID = 128
MAX_PRIORITY = 100
MAX_PAGE_SIZE = 1000
MAX_KEY_BYTES = 1024


def check_create(request: service.CreateExportRequest) -> None:
    """Check CreateExport.

    Raises:
        DomainError: INVALID_REQUEST with every violation.
    """
    violations = [
        *source_violations(request.source),
        *segment_violations(request.segments),
        *settings_violations(request.settings),
    ]
    if request.request_id and not _is_request_id(request.request_id):
        violations.append(
            Violation("request_id", f"must be 1 to {MAX_REQUEST_ID} printable ASCII characters")
        )
    if abs(request.priority) > MAX_PRIORITY:
        violations.append(Violation("priority", f"must be from -{MAX_PRIORITY} to {MAX_PRIORITY}"))
    _refuse(violations)


def check_export_id(export_id: str) -> None:
    """Check the id of an export.

    Raises:
        DomainError: INVALID_REQUEST.
    """
    if not is_id(export_id, "exp"):
        _refuse([Violation("export_id", "must be exp_ and 32 hexadecimal digits")])


def check_list(request: service.ListExportsRequest) -> None:
    """Check ListExports, but for its page token.

    Raises:
        DomainError: INVALID_REQUEST with every violation.
    """
    violations = []
    if not 0 <= request.page_size <= MAX_PAGE_SIZE:
        violations.append(Violation("page_size", f"must be from 1 to {MAX_PAGE_SIZE}"))
    if request.video_id and not is_id(request.video_id, "vid"):
        violations.append(Violation("video_id", "must be vid_ and 32 hexadecimal digits"))
    violations += [
        Violation(f"states[{index}]", "is not a known state")
        for index, state in enumerate(request.states)
        if state == pb.EXPORT_STATE_UNSPECIFIED or state not in pb.ExportState.values()
    ]
    for name in ("created_after", "created_before"):
        if request.HasField(name) and not _is_timestamp(getattr(request, name)):
            violations.append(Violation(name, "is not a valid time"))
    _refuse(violations)


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
    if not s3_object.bucket or len(s3_object.bucket) > 63:
        violations.append(Violation("source.s3_object.bucket", "must be 1 to 63 characters"))
    elif has_control_characters(s3_object.bucket) or "/" in s3_object.bucket:
        violations.append(Violation("source.s3_object.bucket", "is not the name of a bucket"))
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


def settings_violations(settings: pb.ExportSettings) -> list[Violation]:
    """Return what is wrong with settings; proto3 lets unknown enum numbers through."""
    enums = {
        "resolution": pb.Resolution,
        "quality": pb.Quality,
        "format": pb.Format,
        "encoder": pb.EncoderPreference,
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
    return violations


def _is_request_id(text: str) -> bool:
    return len(text) <= MAX_REQUEST_ID and text.isascii() and text.isprintable()


def _is_timestamp(value: Timestamp) -> bool:
    # The range of google.protobuf.Timestamp, years 1 to 9999.
    return -62_135_596_800 <= value.seconds <= 253_402_300_799 and 0 <= value.nanos < 1_000_000_000


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise invalid_request(violations)
