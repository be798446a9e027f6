"""Rows as values: messages of the contract inside, no database outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from sqlalchemy import RowMapping

from services.api.states import ExportState, TaskState
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb

M = TypeVar("M", bound=Message)


def to_json(message: Message) -> dict[str, Any]:
    """Return `message` as it is kept in a JSONB column."""
    data: dict[str, Any] = without_nul(
        json_format.MessageToDict(message, preserving_proto_field_name=True)
    )
    return data


def without_nul(value: Any) -> Any:
    """Return `value` with another character for NUL, in all texts of lists and objects."""
    # The one character that Postgres cannot keep; what FFmpeg says of a
    # hostile file may hold it.
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, dict):
        return {key: without_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    return value


def from_json(data: dict[str, Any], message: M) -> M:
    """Fill `message` from a JSONB column; fields of newer versions are passed over."""
    return json_format.ParseDict(data, message, ignore_unknown_fields=True)


def source_key(user_id: str, source: pb.Source) -> str:
    """Return what a source is called across exports; uploads are their owner's alone."""
    if source.WhichOneof("kind") == "video_id":
        return f"video:{user_id}/{source.video_id}"
    return f"s3:{source.s3_object.bucket}/{source.s3_object.key}"


@dataclass(frozen=True, slots=True)
class NewExport:
    """An export about to be stored."""

    id: str
    user_id: str
    source: pb.Source
    source_etag: str
    source_size_bytes: int
    segments: Sequence[pb.Segment]
    settings: pb.ExportSettings
    priority: int
    plan: pb.Plan | None = None
    warnings: Sequence[pb.ExportWarning] = ()
    fingerprint: bytes | None = None


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task about to be stored.

    Attributes:
        message: a serialized `Task` without its attempt.
        frames: how much work it is, in frames of a video encode.
        part_key: content key of the part that it makes, if it makes one.
        made: whether that part is there already.
        reused: whether another export has made it.
    """

    id: str
    kind: str
    lane: Lane
    message: bytes
    frames: int
    part_key: bytes | None = None
    made: bool = False
    reused: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """What an export will be, and the tasks that make it.

    Attributes:
        work: parts that are there already are among the tasks, marked as made.
        warnings: what the owner should know.
        fingerprint: equal exports of one owner have equal ones.
    """

    plan: pb.Plan
    work: tuple[NewTask, ...]
    warnings: tuple[pb.ExportWarning, ...] = ()
    fingerprint: bytes | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """What makes a call of CreateExport the same call again."""

    request_id: str | None
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits on new exports; 0 means none."""

    exports_per_hour: int
    running_per_user: int
    queue_limit: int


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """An export as it is stored."""

    id: str
    user_id: str
    state: ExportState
    phase: str
    progress: float
    priority: int
    source: pb.Source
    source_etag: str
    source_size_bytes: int
    segments: tuple[pb.Segment, ...]
    settings: pb.ExportSettings
    plan: pb.Plan | None
    output: pb.Output | None
    output_run_id: str | None
    frames_to_encode: int
    frames_encoded: int
    replans: int
    generation: int
    error: pb.ExportError | None
    warnings: tuple[pb.ExportWarning, ...]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    updated_at: datetime

    @classmethod
    def from_row(cls, row: RowMapping) -> ExportRecord:
        """Build the record from a row of `exports`."""
        return cls(
            id=row["id"],
            user_id=row["user_id"],
            state=ExportState(row["state"]),
            phase=row["phase"],
            progress=row["progress"],
            priority=row["priority"],
            source=from_json(row["source"], pb.Source()),
            source_etag=row["source_etag"],
            source_size_bytes=row["source_size_bytes"],
            segments=tuple(from_json(item, pb.Segment()) for item in row["segments"]),
            settings=from_json(row["settings"], pb.ExportSettings()),
            plan=from_json(row["plan"], pb.Plan()) if row["plan"] else None,
            output=from_json(row["output"], pb.Output()) if row["output"] else None,
            output_run_id=row["output_run_id"],
            frames_to_encode=row["frames_to_encode"],
            frames_encoded=row["frames_encoded"],
            replans=row["replans"],
            generation=row["generation"],
            error=from_json(row["error"], pb.ExportError()) if row["error"] else None,
            warnings=tuple(from_json(item, pb.ExportWarning()) for item in row["warnings"]),
            created_at=row["created_at"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            expires_at=row["expires_at"],
            updated_at=row["updated_at"],
        )


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as it is stored."""

    id: str
    export_id: str
    user_id: str
    kind: str
    lane: Lane
    state: TaskState
    message: bytes
    attempt: int
    failures: int
    frames: int
    part_key: bytes | None

    @classmethod
    def from_row(cls, row: RowMapping) -> TaskRecord:
        """Build the record from a row of `tasks`."""
        return cls(
            id=row["id"],
            export_id=row["export_id"],
            user_id=row["user_id"],
            kind=row["kind"],
            lane=Lane(row["lane"]),
            state=TaskState(row["state"]),
            message=row["message"],
            attempt=row["attempt"],
            failures=row["failures"],
            frames=row["frames"],
            part_key=row["part_key"],
        )


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Which of a user's exports to list."""

    user_id: str
    video_id: str | None = None
    states: tuple[ExportState, ...] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
