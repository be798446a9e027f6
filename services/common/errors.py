"""The one table of errors.

Every failure that a caller or an operator can see has a `Reason` here, with
the gRPC status it is answered with and whether trying again can help.
docs/errors.md is checked against this table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from grpc import StatusCode

ERROR_DOMAIN = "videoexport"
# When to try again where nothing better is known: what is away or busy for a moment
# is often back by then, and callers that follow it are no burden.
RETRY_AFTER = timedelta(seconds=2)


class Reason(StrEnum):
    """Stable codes: `ErrorInfo.reason`, `ExportError.code`, `TaskFailed.code`."""

    # The request
    INVALID_REQUEST = "INVALID_REQUEST"
    INVALID_SEGMENTS = "INVALID_SEGMENTS"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"  # noqa: S105 — a reason, not a secret
    USER_REQUIRED = "USER_REQUIRED"
    BUCKET_NOT_ALLOWED = "BUCKET_NOT_ALLOWED"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    # What it names
    EXPORT_NOT_FOUND = "EXPORT_NOT_FOUND"
    SOURCE_NOT_FOUND = "SOURCE_NOT_FOUND"
    OBJECT_NOT_FOUND = "OBJECT_NOT_FOUND"
    UPLOAD_NOT_FOUND = "UPLOAD_NOT_FOUND"
    UPLOAD_MISMATCH = "UPLOAD_MISMATCH"
    EXPORT_ENDED = "EXPORT_ENDED"
    NOT_RETRYABLE = "NOT_RETRYABLE"
    # Limits
    HOURLY_QUOTA = "HOURLY_QUOTA"
    RUNNING_QUOTA = "RUNNING_QUOTA"
    QUEUE_FULL = "QUEUE_FULL"
    SLOTS_BUSY = "SLOTS_BUSY"
    TOO_MANY_WATCHES = "TOO_MANY_WATCHES"
    # Dependencies
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    QUEUE_UNAVAILABLE = "QUEUE_UNAVAILABLE"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    NO_ENCODER = "NO_ENCODER"
    DRAINING = "DRAINING"
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT"
    # The source
    INVALID_SOURCE = "INVALID_SOURCE"
    SOURCE_CHANGED = "SOURCE_CHANGED"
    SOURCE_UNAVAILABLE = "SOURCE_UNAVAILABLE"
    INVALID_SUBTITLES = "INVALID_SUBTITLES"
    INVALID_WATERMARK = "INVALID_WATERMARK"
    # The work
    ENCODER_FAILED = "ENCODER_FAILED"
    ENCODE_STALLED = "ENCODE_STALLED"
    TIME_LIMIT = "TIME_LIMIT"
    MEMORY_LIMIT = "MEMORY_LIMIT"
    OUTPUT_MISMATCH = "OUTPUT_MISMATCH"
    PART_MISSING = "PART_MISSING"
    PARTS_DIFFER = "PARTS_DIFFER"
    GPU_FAILED = "GPU_FAILED"
    SCRATCH_FULL = "SCRATCH_FULL"
    WORKER_LOST = "WORKER_LOST"
    GPU_FALLBACK = "GPU_FALLBACK"
    LOUDNESS_MISSED = "LOUDNESS_MISSED"
    QUALITY_NOT_MEASURED = "QUALITY_NOT_MEASURED"
    COPY_FAILED = "COPY_FAILED"
    COPY_NOT_POSSIBLE = "COPY_NOT_POSSIBLE"
    SOURCE_DAMAGED = "SOURCE_DAMAGED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class ReasonInfo:
    """How a reason is answered.

    Attributes:
        status: gRPC status of an RPC that ends with it.
        retryable: whether the same work may succeed when tried again.
        meaning: one sentence for the documentation.
    """

    status: StatusCode
    retryable: bool
    meaning: str


TABLE: dict[Reason, ReasonInfo] = {
    Reason.INVALID_REQUEST: ReasonInfo(
        StatusCode.INVALID_ARGUMENT,
        False,
        "Fields of the request are not valid; BadRequest lists every one.",
    ),
    Reason.INVALID_SEGMENTS: ReasonInfo(
        StatusCode.INVALID_ARGUMENT, False, "Segments do not fit the source; every one is listed."
    ),
    Reason.INVALID_PAGE_TOKEN: ReasonInfo(
        StatusCode.INVALID_ARGUMENT,
        False,
        "The page token is damaged or belongs to other filters.",
    ),
    Reason.USER_REQUIRED: ReasonInfo(
        StatusCode.UNAUTHENTICATED, False, "The metadata key videoexport-user is missing."
    ),
    Reason.BUCKET_NOT_ALLOWED: ReasonInfo(
        StatusCode.PERMISSION_DENIED, False, "The bucket is not on the operators' allow-list."
    ),
    Reason.REQUEST_ID_REUSED: ReasonInfo(
        StatusCode.ALREADY_EXISTS,
        False,
        "The request id was used with another body in the last 24 hours.",
    ),
    Reason.EXPORT_NOT_FOUND: ReasonInfo(
        StatusCode.NOT_FOUND, False, "The caller has no such export."
    ),
    Reason.SOURCE_NOT_FOUND: ReasonInfo(
        StatusCode.NOT_FOUND, False, "The caller has no such video, or no such object exists."
    ),
    Reason.OBJECT_NOT_FOUND: ReasonInfo(StatusCode.NOT_FOUND, False, "The object does not exist."),
    Reason.UPLOAD_NOT_FOUND: ReasonInfo(
        StatusCode.NOT_FOUND, False, "The upload is unknown, aborted or expired."
    ),
    Reason.UPLOAD_MISMATCH: ReasonInfo(
        StatusCode.FAILED_PRECONDITION,
        True,
        "Stored parts are missing or differ from what was announced.",
    ),
    Reason.EXPORT_ENDED: ReasonInfo(
        StatusCode.FAILED_PRECONDITION, False, "The export has ended and cannot change that way."
    ),
    Reason.NOT_RETRYABLE: ReasonInfo(
        StatusCode.FAILED_PRECONDITION, False, "Trying the export again cannot succeed."
    ),
    Reason.HOURLY_QUOTA: ReasonInfo(
        StatusCode.RESOURCE_EXHAUSTED, True, "The user has used up the exports of this hour."
    ),
    Reason.RUNNING_QUOTA: ReasonInfo(
        StatusCode.RESOURCE_EXHAUSTED, True, "The user has as many unfinished exports as allowed."
    ),
    Reason.QUEUE_FULL: ReasonInfo(
        StatusCode.RESOURCE_EXHAUSTED, True, "The queue of the whole cluster is full."
    ),
    Reason.SLOTS_BUSY: ReasonInfo(
        StatusCode.RESOURCE_EXHAUSTED, True, "Every slot of this encoder is busy."
    ),
    Reason.TOO_MANY_WATCHES: ReasonInfo(
        StatusCode.RESOURCE_EXHAUSTED,
        True,
        "The replica, or the user at it, has as many watches as may be.",
    ),
    Reason.STORE_UNAVAILABLE: ReasonInfo(
        StatusCode.UNAVAILABLE,
        True,
        "The database cannot be reached; unless the message says otherwise, nothing was stored.",
    ),
    Reason.QUEUE_UNAVAILABLE: ReasonInfo(StatusCode.UNAVAILABLE, True, "NATS cannot be reached."),
    Reason.STORAGE_UNAVAILABLE: ReasonInfo(
        StatusCode.UNAVAILABLE, True, "Object storage cannot be reached."
    ),
    Reason.NO_ENCODER: ReasonInfo(
        StatusCode.UNAVAILABLE, True, "No live encoder can do this at the moment."
    ),
    Reason.DRAINING: ReasonInfo(
        StatusCode.UNAVAILABLE, True, "The encoder is going away and takes no new work."
    ),
    Reason.QUEUE_TIMEOUT: ReasonInfo(
        StatusCode.DEADLINE_EXCEEDED,
        True,
        "The export waited for an encoder for longer than it may.",
    ),
    Reason.INVALID_SOURCE: ReasonInfo(
        StatusCode.INVALID_ARGUMENT, False, "The source is not a video that can be exported."
    ),
    Reason.SOURCE_CHANGED: ReasonInfo(
        StatusCode.FAILED_PRECONDITION, False, "The source was overwritten since it was planned."
    ),
    Reason.SOURCE_UNAVAILABLE: ReasonInfo(
        StatusCode.UNAVAILABLE, True, "Reading the source failed on the way."
    ),
    Reason.INVALID_SUBTITLES: ReasonInfo(
        StatusCode.INVALID_ARGUMENT, False, "The subtitles cannot be read, or not be drawn."
    ),
    Reason.INVALID_WATERMARK: ReasonInfo(
        StatusCode.INVALID_ARGUMENT,
        False,
        "The watermark is no image that can be drawn, or is not there any more.",
    ),
    Reason.ENCODER_FAILED: ReasonInfo(
        StatusCode.INTERNAL, True, "FFmpeg failed; the message is its last meaningful line."
    ),
    Reason.ENCODE_STALLED: ReasonInfo(
        StatusCode.DEADLINE_EXCEEDED, True, "FFmpeg made no progress and was stopped."
    ),
    Reason.TIME_LIMIT: ReasonInfo(
        StatusCode.DEADLINE_EXCEEDED, True, "The work took longer than its limit."
    ),
    Reason.MEMORY_LIMIT: ReasonInfo(
        StatusCode.FAILED_PRECONDITION, False, "Encoding the video takes more memory than it may."
    ),
    Reason.OUTPUT_MISMATCH: ReasonInfo(
        StatusCode.INTERNAL, True, "The file made is not the file planned; it was not delivered."
    ),
    Reason.PART_MISSING: ReasonInfo(
        StatusCode.INTERNAL, True, "Parts of the export vanished and are made again."
    ),
    Reason.PARTS_DIFFER: ReasonInfo(
        StatusCode.INTERNAL, True, "Parts of the export do not join and are made again."
    ),
    Reason.GPU_FAILED: ReasonInfo(
        StatusCode.INTERNAL, False, "The GPU cannot encode the export; the CPU does."
    ),
    Reason.SCRATCH_FULL: ReasonInfo(
        StatusCode.RESOURCE_EXHAUSTED, True, "The encoder's scratch disk is full."
    ),
    Reason.WORKER_LOST: ReasonInfo(
        StatusCode.INTERNAL, False, "Every encoder that tried the task vanished with it."
    ),
    Reason.GPU_FALLBACK: ReasonInfo(
        StatusCode.OK, False, "A warning: the GPU could not do it, so the CPU did."
    ),
    Reason.LOUDNESS_MISSED: ReasonInfo(
        StatusCode.OK,
        False,
        "A warning: the sound could not be made as loud as asked for without exceeding its peaks.",
    ),
    Reason.QUALITY_NOT_MEASURED: ReasonInfo(
        StatusCode.OK,
        False,
        "A warning: the output could not be compared with its source; it is complete without.",
    ),
    # Where it cannot be planned anew at the moment, it may be later.
    Reason.COPY_FAILED: ReasonInfo(
        StatusCode.INTERNAL, True, "The source's pictures cannot be copied; they are encoded."
    ),
    Reason.COPY_NOT_POSSIBLE: ReasonInfo(
        StatusCode.OK,
        False,
        "A warning: the source's pictures could not be copied, so they were encoded.",
    ),
    Reason.SOURCE_DAMAGED: ReasonInfo(
        StatusCode.OK,
        False,
        "A warning: some of the source cannot be decoded, at the times that it names.",
    ),
    Reason.INTERNAL: ReasonInfo(
        StatusCode.INTERNAL, True, "An error of the service itself; its log has the details."
    ),
}

# Answers to calls that may succeed when only time passes.
PASSING = frozenset({StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED})


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that cannot be accepted: its path and what is wrong, in words."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One limit that is reached: whose (`subject`), and which, in words."""

    subject: str
    description: str


class DomainError(Exception):
    """An error that a caller is meant to see.

    Attributes:
        reason: its row in the table.
        message: one sentence for a person; no secrets, no paths.
        violations: for INVALID_REQUEST and INVALID_SEGMENTS, all of them.
        quota: the limit, for the reasons under "Limits".
        retry_after: when trying again makes sense; by default soon for what
            passes by itself, never for the rest.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        quota: QuotaViolation | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.quota = quota
        if retry_after is None and self.status in PASSING:
            retry_after = RETRY_AFTER
        self.retry_after = retry_after

    @property
    def status(self) -> StatusCode:
        """The gRPC status of this error."""
        return TABLE[self.reason].status

    @property
    def retryable(self) -> bool:
        """Whether the same work may succeed when tried again."""
        return TABLE[self.reason].retryable


def as_sentence(text: str) -> str:
    """Return a message as people read it: capitalised, with a full stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?…" else ".")


def invalid_request(violations: Sequence[Violation]) -> DomainError:
    """Return the error for fields that are not valid; the message names the first."""
    first = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return DomainError(
        Reason.INVALID_REQUEST,
        f"{first.field}: {first.description}{more}",
        violations=violations,
    )
