"""Metrics of the storage service, beside the RPC metrics that every service has."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.common.metrics import from_zero


class Operation(StrEnum):
    """What the service asks of S3."""

    HEAD_BUCKET = "head_bucket"
    CREATE_BUCKET = "create_bucket"
    GET_LIFECYCLE = "get_lifecycle"
    PUT_LIFECYCLE = "put_lifecycle"
    CREATE_UPLOAD = "create_upload"
    LIST_PARTS = "list_parts"
    COMPLETE_UPLOAD = "complete_upload"
    ABORT_UPLOAD = "abort_upload"
    LIST_UPLOADS = "list_uploads"
    PUT_TAGS = "put_tags"
    HEAD_OBJECT = "head_object"
    COPY_OBJECT = "copy_object"
    DELETE_OBJECTS = "delete_objects"


class Result(StrEnum):
    """How a request ended.

    `refused` is an answer that the service expects, such as "no such key";
    `cancelled` is a caller who did not wait for it.
    """

    OK = "ok"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    CANCELLED = "cancelled"
    ERROR = "error"


# From a HEAD on the same machine (2 ms) to the deadline for joining parts (60 s).
S3_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class StorageMetrics:
    """Counters and times; labels are closed by the enums and by the proto's upload purposes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = from_zero(
            Counter(
                "videoexport_storage_s3_requests_total",
                "Requests to S3, retries of one not counted apart, by operation and result.",
                ("operation", "result"),
                registry=registry,
            ),
            Operation,
            Result,
        )
        self.seconds = Histogram(
            "videoexport_storage_s3_duration_seconds",
            "Time of a request to S3, waiting for its turn included.",
            ("operation",),
            buckets=S3_SECONDS,
            registry=registry,
        )
        self.uploaded_bytes = Counter(
            "videoexport_storage_uploaded_bytes_total",
            "Bytes of completed uploads, by what was uploaded.",
            ("purpose",),
            registry=registry,
        )
