"""What a request may say, checked field by field so that every violation is listed at once."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from services.common.caller import is_id
from services.common.checks import settings_violations, source_violations
from services.common.errors import Violation, invalid_request
from services.common.planner import misfits, segment_violations
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service

MAX_REQUEST_ID = 128
MAX_PRIORITY = 100
MAX_PAGE_SIZE = 1000
# Far more than there are; without a limit, one request holds a million violations.
MAX_STATES = 100
# Made once: asking the enum's descriptor for each state of a request is slow.
KNOWN_STATES = frozenset(pb.ExportState.values()) - {pb.EXPORT_STATE_UNSPECIFIED}


def check_create(request: service.CreateExportRequest, info: pb.SourceInfo | None = None) -> None:
    """Check CreateExport, with the segments against the source where that is known.

    Raises:
        DomainError: INVALID_REQUEST with every violation.
    """
    violations = source_violations(request.source)
    settings = settings_violations(request.settings)
    if info is None or settings:
        violations += segment_violations(request.segments)
    else:
        violations += misfits(info, request.segments, request.settings)
    violations += settings
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
    if len(request.states) > MAX_STATES:
        violations.append(Violation("states", f"must be at most {MAX_STATES}"))
    else:
        violations += [
            Violation(f"states[{index}]", "is not a known state")
            for index, state in enumerate(request.states)
            if state not in KNOWN_STATES
        ]
    for name in ("created_after", "created_before"):
        if request.HasField(name) and not _is_timestamp(getattr(request, name)):
            violations.append(Violation(name, "is not a valid time"))
    _refuse(violations)


def _is_request_id(text: str) -> bool:
    return len(text) <= MAX_REQUEST_ID and text.isascii() and text.isprintable()


def _is_timestamp(value: Timestamp) -> bool:
    # The range of google.protobuf.Timestamp, years 1 to 9999.
    return -62_135_596_800 <= value.seconds <= 253_402_300_799 and 0 <= value.nanos < 1_000_000_000


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise invalid_request(violations)
