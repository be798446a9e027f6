"""Requests as plain values: every field checked, all violations reported at once. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from services.common import ids
from services.common.errors import Violation, invalid_request
from services.common.planner import duration_problem
from services.storage.keys import Keys, Location, file_name_problem, locate_all, stills_of
from services.storage.settings import LARGEST_OBJECT, LARGEST_PART, MIB
from videoexport.v1 import export_pb2, storage_service_pb2

# With as many parts as this, an object of 5 TiB has parts of 5 GiB, the largest
# that S3 takes, and the answer with all URLs stays under 1 MiB.
MOST_PARTS = LARGEST_OBJECT // LARGEST_PART
MOST_OBJECTS = 1000

SHORTEST_URL = timedelta(minutes=1)
LONGEST_URL = timedelta(days=7)  # the limit of S3's signatures
DEFAULT_URL = timedelta(hours=1)

_UPLOAD_ID = re.compile(r"[!-~]{1,1024}")
_MD5 = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload to begin: where to, `ref` as callers name it, its size, a name for people."""

    location: Location
    ref: storage_service_pb2.ObjectRef
    size_bytes: int
    file_name: str


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """An upload that was begun: S3's id of it, and where to."""

    location: Location
    upload_id: str


@dataclass(frozen=True, slots=True)
class SentUpload:
    """An upload whose parts are said to be stored.

    Attributes:
        pending: which upload.
        md5s: digest of each part in hexadecimal, in order from part 1.
        size_bytes: size of all parts together.
        sha256: digest of the whole in hexadecimal; empty where the caller has none.
    """

    pending: PendingUpload
    md5s: tuple[str, ...]
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Download:
    """A URL to sign: of what, the name to save it under (or none), how long it works."""

    location: Location
    file_name: str
    lifetime: timedelta


def part_size(size_bytes: int, preferred: int) -> int:
    """Return the size of an upload's parts but the last, in bytes.

    As preferred, or the next whole MiB that makes do with MOST_PARTS.
    """
    needed = -(-size_bytes // MOST_PARTS)
    return max(preferred, -(-needed // MIB) * MIB)


def new_upload(
    request: storage_service_pb2.CreateUploadRequest, user: str, keys: Keys, largest: int
) -> NewUpload:
    """Return the upload that a CreateUpload asks for; a source gets its video id here.

    Args:
        request: as it came.
        user: the user the request is made for.
        keys: locates the object.
        largest: bytes that an upload may have.

    Raises:
        DomainError: INVALID_REQUEST.
    """
    violations: list[Violation] = []
    ref = storage_service_pb2.ObjectRef()
    file_name = ""
    location = None
    match request.WhichOneof("purpose"):
        case "source":
            file_name = request.source.file_name
            if problem := file_name_problem(file_name):
                violations.append(Violation("source.file_name", problem))
            ref.source.CopyFrom(export_pb2.Source(video_id=ids.video_id()))
            location = keys.video(ref.source.video_id, user, "source", violations)
        case "export_output":
            ref.export_output.CopyFrom(request.export_output)
            location = keys.export_output(ref.export_output, user, "export_output", violations)
        case "preview_id":
            ref.preview_id, ref.preview_format = request.preview_id, request.preview_format
            named = (ref.preview_id, ref.preview_format)
            location = keys.preview(*named, user, "preview_id", violations)
        case "cache_key":
            ref.cache_key = request.cache_key
            location = keys.cached(ref.cache_key, user, "cache_key", violations)
        case _:
            kinds = "source, export_output, preview_id or cache_key"
            violations.append(Violation("purpose", f"must be {kinds}"))
    _check_size(request.size_bytes, largest, violations)
    if violations or location is None:
        raise invalid_request(violations)
    return NewUpload(location, ref, request.size_bytes, file_name)


def pending_upload(
    request: storage_service_pb2.AbortUploadRequest, user: str, keys: Keys
) -> PendingUpload:
    """Return the upload that an AbortUpload names.

    Raises:
        DomainError: INVALID_REQUEST.
    """
    violations: list[Violation] = []
    pending = _pending(request.upload, user, keys, violations)
    if violations or pending is None:
        raise invalid_request(violations)
    return pending


def sent_upload(
    request: storage_service_pb2.CompleteUploadRequest, user: str, keys: Keys
) -> SentUpload:
    """Return the upload that a CompleteUpload names, and what it should hold.

    Raises:
        DomainError: INVALID_REQUEST.
    """
    violations: list[Violation] = []
    pending = _pending(request.upload, user, keys, violations)
    _check_size(request.size_bytes, LARGEST_OBJECT, violations)
    if not 1 <= len(request.parts) <= MOST_PARTS:
        violations.append(Violation("parts", f"must be 1 to {MOST_PARTS} parts"))
    for index, part in enumerate(request.parts):
        if part.part_number != index + 1:
            violations.append(
                Violation(f"parts[{index}].part_number", f"must be {index + 1}: all parts in order")
            )
        if not _MD5.fullmatch(part.md5):
            violations.append(Violation(f"parts[{index}].md5", "must be 32 hexadecimal digits"))
    if request.sha256 and not _SHA256.fullmatch(request.sha256):
        violations.append(Violation("sha256", "must be 64 hexadecimal digits"))
    if violations or pending is None:
        raise invalid_request(violations)
    md5s = tuple(part.md5.lower() for part in request.parts)
    return SentUpload(pending, md5s, request.size_bytes, request.sha256.lower())


def objects_to_stat(
    request: storage_service_pb2.StatObjectsRequest, user: str, keys: Keys
) -> list[Location]:
    """Return the objects of a StatObjects.

    Raises:
        DomainError: INVALID_REQUEST or BUCKET_NOT_ALLOWED.
    """
    violations = _check_count(request.objects)
    locations = locate_all(keys, request.objects, user, violations)
    if violations:
        raise invalid_request(violations)
    return locations


def objects_to_delete(
    request: storage_service_pb2.DeleteObjectsRequest, user: str, keys: Keys
) -> tuple[list[Location], list[Location]]:
    """Return the objects of a DeleteObjects, all of them in the own bucket, and their stills.

    Raises:
        DomainError: INVALID_REQUEST.
    """
    violations = _check_count(request.objects)
    _refuse_foreign(request.objects, violations)
    if violations:
        raise invalid_request(violations)
    locations = locate_all(keys, request.objects, user, violations)
    if violations:
        raise invalid_request(violations)
    return locations, locate_all(keys, stills_of(request.objects), user, violations)


def objects_to_copy(
    request: storage_service_pb2.CopyObjectRequest, user: str, keys: Keys
) -> tuple[Location, Location]:
    """Return the object of a CopyObject and its target, both in the own bucket.

    Raises:
        DomainError: INVALID_REQUEST.
    """
    violations = [
        Violation(f"{name}.source.s3_object", "must be an object of this service")
        for name in ("object", "target")
        if getattr(request, name).source.HasField("s3_object")
    ]
    if violations:
        raise invalid_request(violations)
    found = keys.locate(request.object, user, "object", violations)
    target = keys.locate(request.target, user, "target", violations)
    if found is None or target is None:
        raise invalid_request(violations)
    return found, target


def download(request: storage_service_pb2.SignDownloadRequest, user: str, keys: Keys) -> Download:
    """Return the URL that a SignDownload asks for.

    Raises:
        DomainError: INVALID_REQUEST or BUCKET_NOT_ALLOWED.
    """
    violations: list[Violation] = []
    location = keys.locate(request.object, user, "object", violations)
    if request.file_name and (problem := file_name_problem(request.file_name)):
        violations.append(Violation("file_name", problem))
    lifetime = DEFAULT_URL
    if request.HasField("lifetime"):
        lifetime = _lifetime(request.lifetime, violations)
    if violations or location is None:
        raise invalid_request(violations)
    return Download(location, request.file_name, lifetime)


def _lifetime(duration: Duration, violations: list[Violation]) -> timedelta:
    if problem := duration_problem(duration):
        violations.append(Violation("lifetime", problem))
        return DEFAULT_URL
    lifetime = timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
    if not SHORTEST_URL <= lifetime <= LONGEST_URL:
        violations.append(Violation("lifetime", "must be 1 minute to 7 days"))
    return lifetime


def _pending(
    upload: storage_service_pb2.UploadRef, user: str, keys: Keys, violations: list[Violation]
) -> PendingUpload | None:
    if not _UPLOAD_ID.fullmatch(upload.upload_id):
        violations.append(
            Violation("upload.upload_id", "must be 1 to 1024 printable ASCII characters")
        )
    if upload.object.source.HasField("s3_object"):
        violations.append(
            Violation("upload.object.source.s3_object", "must be an object of this service")
        )
        return None
    location = keys.locate(upload.object, user, "upload.object", violations)
    return None if location is None else PendingUpload(location, upload.upload_id)


def _check_size(size_bytes: int, largest: int, violations: list[Violation]) -> None:
    if not 1 <= size_bytes <= largest:
        violations.append(Violation("size_bytes", f"must be 1 to {largest} bytes"))


def _check_count(objects: Sequence[storage_service_pb2.ObjectRef]) -> list[Violation]:
    if 1 <= len(objects) <= MOST_OBJECTS:
        return []
    return [Violation("objects", f"must be 1 to {MOST_OBJECTS} objects")]


def _refuse_foreign(
    objects: Sequence[storage_service_pb2.ObjectRef], violations: list[Violation]
) -> None:
    violations.extend(
        Violation(f"objects[{index}].source.s3_object", "cannot be deleted through this service")
        for index, ref in enumerate(objects)
        if ref.source.HasField("s3_object")
    )
