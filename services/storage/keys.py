"""Where objects lie: keys built by the server alone, and the checks on what names them.

| object                 | bucket      | key                                          |
|------------------------|-------------|----------------------------------------------|
| uploaded source        | own         | videos/<user>/<video id>                     |
| finished file          | own         | exports/<user>/<export id>/<run id>.<suffix> |
| still picture of it    | own         | exports/<user>/<export id>/<run id>/<name>   |
| result of an Encode    | own         | previews/<user>/<preview id>.<suffix>        |
| part for later exports | own         | cache/<user>/<content key>                   |
| source in other bucket | allow-list  | as named                                     |

The suffix is that of the file's format, such as `mp4`.

The user is a step of every key in the own bucket, so another user's object
is simply not there. Pure: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from services.common.caller import has_control_characters, is_id
from services.common.checks import source_violations
from services.common.codecs import CONTAINERS, Container
from services.common.errors import DomainError, Reason, Violation
from services.common.stills import STILL_FILES
from videoexport.v1 import export_pb2, storage_service_pb2

# Expired by the lifecycle rules in buckets.py.
CACHE_PREFIX = "cache/"
PREVIEWS_PREFIX = "previews/"

_STILL_TYPES = {".jpg": "image/jpeg", ".vtt": "text/vtt"}
_CONTENT_KEY = re.compile(r"[0-9a-f]{64}")


class Purpose(StrEnum):
    """What an object in the own bucket is; a label of metrics."""

    SOURCE = "source"
    EXPORT = "export"
    PREVIEW = "preview"
    CACHE = "cache"


@dataclass(frozen=True, slots=True)
class Location:
    """Where an object lies.

    Attributes:
        bucket: bucket name.
        key: object key.
        title: what messages call the object, such as `video vid_…`.
        purpose: what it is; None for an object in an allow-listed bucket.
        content_type: what browsers are told the object is. What a client says a source is,
            nobody checks; as octets no browser runs it.
    """

    bucket: str
    key: str
    title: str
    purpose: Purpose | None
    content_type: str = "application/octet-stream"

    def missing(self) -> DomainError:
        """Return the error for an object that is not there, or not there for this user."""
        is_source = self.purpose in (None, Purpose.SOURCE)
        reason = Reason.SOURCE_NOT_FOUND if is_source else Reason.OBJECT_NOT_FOUND
        return DomainError(reason, f"There is no {self.title}.")


class Keys:
    """Locates what requests name, for one own bucket and one allow-list."""

    def __init__(self, bucket: str, source_buckets: Collection[str]) -> None:
        self._bucket = bucket
        # Whatever the settings say, the own bucket is never reached by a free key.
        self._source_buckets = frozenset(source_buckets) - {bucket}

    def locate(
        self,
        ref: storage_service_pb2.ObjectRef,
        user: str,
        field: str,
        violations: list[Violation],
    ) -> Location | None:
        """Return where `ref` lies, or add what is wrong with it to `violations`.

        Args:
            ref: the object as the request names it.
            user: the user the request is made for.
            field: path of `ref` in the request.
            violations: receives every violation.

        Raises:
            DomainError: BUCKET_NOT_ALLOWED.
        """
        match ref.WhichOneof("kind"):
            case "source":
                return self._source(ref.source, user, f"{field}.source", violations)
            case "export_output":
                path = f"{field}.export_output"
                return self.export_output(ref.export_output, user, path, violations)
            case "preview_id":
                return self.preview(
                    *(ref.preview_id, ref.preview_format, user),
                    *(f"{field}.preview_id", violations),
                )
            case "cache_key":
                return self.cached(ref.cache_key, user, f"{field}.cache_key", violations)
            case _:
                violations.append(Violation(field, "must name an object"))
                return None

    def video(
        self, video_id: str, user: str, field: str, violations: list[Violation]
    ) -> Location | None:
        """Return where an uploaded source lies."""
        if not _check_id(video_id, "vid", field, violations):
            return None
        key = f"videos/{user}/{video_id}"
        return Location(self._bucket, key, f"video {video_id}", Purpose.SOURCE)

    def export_output(
        self,
        output: storage_service_pb2.ExportOutput,
        user: str,
        field: str,
        violations: list[Violation],
    ) -> Location | None:
        """Return where a finished file of an export lies."""
        good_export = _check_id(output.export_id, "exp", f"{field}.export_id", violations)
        good_run = _check_id(output.run_id, "run", f"{field}.run_id", violations)
        container = _container(output.format, f"{field}.format", violations)
        good_file = not output.file or output.file in STILL_FILES
        if not good_file:
            violations.append(Violation(f"{field}.file", "is not a file of an export"))
        if not (good_export and good_run and good_file) or container is None:
            return None
        run = f"exports/{user}/{output.export_id}/{output.run_id}"
        title = f"file of export {output.export_id}"
        if output.file:
            kind = _STILL_TYPES[output.file[-4:]]
            return Location(self._bucket, f"{run}/{output.file}", title, Purpose.EXPORT, kind)
        key = f"{run}.{container.suffix}"
        return Location(self._bucket, key, title, Purpose.EXPORT, container.content_type)

    def preview(
        self,
        preview_id: str,
        form: export_pb2.Format.ValueType,
        user: str,
        field: str,
        violations: list[Violation],
    ) -> Location | None:
        """Return where the result of a direct Encode lies."""
        known = _check_id(preview_id, "prv", field, violations)
        container = _container(form, field.removesuffix("_id") + "_format", violations)
        if not known or container is None:
            return None
        key = f"{PREVIEWS_PREFIX}{user}/{preview_id}.{container.suffix}"
        title = f"preview {preview_id}"
        return Location(self._bucket, key, title, Purpose.PREVIEW, container.content_type)

    def cached(
        self, key: str, user: str, field: str, violations: list[Violation]
    ) -> Location | None:
        """Return where a part for later exports lies.

        The key is made from the user too; the step of the path keeps users apart although
        callers name it.
        """
        if not _CONTENT_KEY.fullmatch(key):
            violations.append(Violation(field, "must be 64 hexadecimal digits"))
            return None
        path = f"{CACHE_PREFIX}{user}/{key}"
        return Location(self._bucket, path, f"part {key}", Purpose.CACHE)

    def _source(
        self, source: export_pb2.Source, user: str, field: str, violations: list[Violation]
    ) -> Location | None:
        match source.WhichOneof("kind"):
            case "video_id":
                return self.video(source.video_id, user, f"{field}.video_id", violations)
            case "s3_object":
                return self._s3_object(source, field, violations)
            case _:
                violations.append(Violation(field, "must name a video or an S3 object"))
                return None

    def _s3_object(
        self, source: export_pb2.Source, field: str, violations: list[Violation]
    ) -> Location | None:
        # A `.` or `..` step is one of them: HTTP clients resolve it in the path of a URL,
        # which then names another object than was signed.
        problems = source_violations(source)
        if problems:
            violations.extend(
                Violation(field + problem.field.removeprefix("source"), problem.description)
                for problem in problems
            )
            return None
        named = source.s3_object
        if named.bucket not in self._source_buckets:
            raise DomainError(
                Reason.BUCKET_NOT_ALLOWED,
                f"The bucket {named.bucket} is not one that sources may lie in.",
            )
        title = f"object s3://{named.bucket}/{named.key}"
        return Location(named.bucket, named.key, title, None)


def in_every_format(location: Location) -> list[Location]:
    """Return where a finished file may lie: whoever deletes it need not know its format."""
    if location.purpose not in (Purpose.EXPORT, Purpose.PREVIEW):
        return [location]
    if location.key.rpartition("/")[2] in STILL_FILES:
        return [location]
    stem, _, _ = location.key.rpartition(".")
    return [
        replace(location, key=f"{stem}.{container.suffix}") for container in CONTAINERS.values()
    ]


def locate_all(
    keys: Keys,
    refs: Sequence[storage_service_pb2.ObjectRef],
    user: str,
    violations: list[Violation],
) -> list[Location]:
    """Return where each of `objects[i]` lies; shorter than `refs` if there are violations."""
    found = (
        keys.locate(ref, user, f"objects[{index}]", violations) for index, ref in enumerate(refs)
    )
    return [location for location in found if location is not None]


def stills_of(
    refs: Sequence[storage_service_pb2.ObjectRef],
) -> list[storage_service_pb2.ObjectRef]:
    """Return all stills that may have been made of those objects that are videos of exports."""
    found = []
    for ref in refs:
        if ref.HasField("export_output") and not ref.export_output.file:
            for name in STILL_FILES:
                still = storage_service_pb2.ObjectRef()
                still.CopyFrom(ref)
                still.export_output.file = name
                found.append(still)
    return found


def file_name_problem(name: str) -> str | None:
    """Return what is wrong with a file name meant for people, or None."""
    if not 1 <= len(name.encode()) <= 255:
        return "must have 1 to 255 bytes"
    if has_control_characters(name):
        return "must not hold control characters"
    if "/" in name or "\\" in name or name in (".", ".."):
        return "must be a name, not a path"
    return None


def _container(
    form: export_pb2.Format.ValueType, field: str, violations: list[Violation]
) -> Container | None:
    container = CONTAINERS.get(form or export_pb2.FORMAT_MP4)
    if container is None:
        violations.append(Violation(field, "is not a known value"))
    return container


def _check_id(text: str, prefix: str, field: str, violations: list[Violation]) -> bool:
    if is_id(text, prefix):
        return True
    violations.append(Violation(field, f"must be {prefix}_ and 32 hexadecimal digits"))
    return False
