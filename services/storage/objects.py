"""Finished objects: stat, signed downloads, deletion."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from services.common.errors import DomainError, Reason
from services.storage.keys import Location
from services.storage.metrics import Operation
from services.storage.requests import MOST_OBJECTS, Download
from services.storage.s3 import AT_ONCE, S3, Refused

# Metadata is ASCII only, so the name is kept percent-encoded.
FILE_NAME_METADATA = "file-name"

_NOT_THERE = frozenset({"404", "NoSuchKey"})
# Without the right to list a bucket, S3 answers 403 for a key that is missing.
_NOT_THERE_ABROAD = _NOT_THERE | {"403", "NoSuchBucket"}

# A batch leaves turns to the other calls, and never lasts longer than this.
BATCH_CONCURRENCY = AT_ONCE // 2
BATCH_SECONDS = 60
# S3 copies about 100 MB a second and part; the largest output has a thousand parts.
COPY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Stat:
    """What S3 knows of an object: bytes, ETag without quotes, last write, name for people."""

    size_bytes: int
    etag: str
    update_time: datetime
    file_name: str


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A URL that works until `expire_time`; whoever has it can use it."""

    url: str
    expire_time: datetime


class Objects:
    """The finished objects of the own bucket and of the allow-listed ones."""

    def __init__(self, s3: S3, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    async def stat(self, location: Location) -> Stat | None:
        """Return what S3 knows of an object, or None where there is none.

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        try:
            head = await self._s3.run(
                Operation.HEAD_OBJECT,
                lambda client: client.head_object(Bucket=location.bucket, Key=location.key),
                expect=_NOT_THERE_ABROAD if location.purpose is None else _NOT_THERE,
            )
        except Refused as refused:
            if refused.code == "403":
                await self._check_credentials()
            return None
        # In an allow-listed bucket, metadata of that name would be somebody else's text.
        is_ours = location.purpose is not None
        name = head["Metadata"].get(FILE_NAME_METADATA, "") if is_ours else ""
        return Stat(
            size_bytes=head["ContentLength"],
            etag=head["ETag"].strip('"'),
            update_time=head["LastModified"],
            file_name=unquote(name),
        )

    async def stat_all(self, locations: Sequence[Location]) -> list[Stat | None]:
        """Return `stat` of each, in order.

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        gate = asyncio.Semaphore(BATCH_CONCURRENCY)

        async def one(location: Location) -> Stat | None:
            async with gate:
                return await self.stat(location)

        try:
            async with asyncio.timeout(BATCH_SECONDS), asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(location)) for location in locations]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        except TimeoutError:
            raise DomainError(
                Reason.STORAGE_UNAVAILABLE, "Object storage answers too slowly."
            ) from None
        return [task.result() for task in tasks]

    async def sign_download(self, wanted: Download) -> SignedUrl:
        """Return a URL to read an object.

        Raises:
            DomainError: SOURCE_NOT_FOUND or OBJECT_NOT_FOUND, STORAGE_UNAVAILABLE.
        """
        location = wanted.location
        if await self.stat(location) is None:
            raise location.missing()
        parameters = {"Bucket": location.bucket, "Key": location.key}
        if wanted.file_name:
            parameters["ResponseContentDisposition"] = attachment(wanted.file_name)
        # S3 counts whole seconds; rounding up keeps the promise.
        seconds = -(-wanted.lifetime // timedelta(seconds=1))
        expire_time = datetime.now(UTC) + timedelta(seconds=seconds)
        url = await self._s3.sign(
            lambda client: client.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=seconds
            )
        )
        return SignedUrl(url, expire_time)

    async def copy(self, found: Location, target: Location) -> Stat:
        """Copy an object within the own bucket and return the copy.

        Raises:
            DomainError: SOURCE_NOT_FOUND or OBJECT_NOT_FOUND, STORAGE_UNAVAILABLE.
        """
        # Onto itself S3 copies only if that changes something.
        extra: dict[str, object] = {}
        if found == target:
            head = await self.stat(found)
            if head is None:
                raise found.missing()
            metadata = {FILE_NAME_METADATA: quote(head.file_name)} if head.file_name else {}
            extra = {
                "MetadataDirective": "REPLACE",
                "Metadata": metadata,
                "ContentType": found.content_type,
            }
        try:
            await self._s3.run(
                Operation.COPY_OBJECT,
                # In parts, side by side, where it is large.
                lambda client: client.copy(
                    {"Bucket": found.bucket, "Key": found.key},
                    target.bucket,
                    target.key,
                    ExtraArgs=extra,
                ),
                expect=_NOT_THERE,
                deadline=COPY_SECONDS,
            )
        except Refused:
            raise found.missing() from None
        copied = await self.stat(target)
        if copied is None:
            raise target.missing()
        return copied

    async def delete_all(self, locations: Sequence[Location]) -> int:
        """Delete objects of the own bucket; return how many are gone now.

        Raises:
            DomainError: STORAGE_UNAVAILABLE; some may be gone then.
        """
        keys = sorted({location.key for location in locations})
        for first in range(0, len(keys), MOST_OBJECTS):
            await self._delete(keys[first : first + MOST_OBJECTS])
        return len(keys)

    async def _delete(self, keys: Sequence[str]) -> None:
        answer = await self._s3.run(
            Operation.DELETE_OBJECTS,
            lambda client: client.delete_objects(
                Bucket=self._bucket,
                Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True},
            ),
        )
        if answer.get("Errors"):
            raise DomainError(
                Reason.STORAGE_UNAVAILABLE, "Object storage could not delete every object."
            )

    async def _check_credentials(self) -> None:
        """Tell "this object is not for us" from "nothing is, our keys are no good".

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        await self._s3.run(
            Operation.HEAD_BUCKET, lambda client: client.head_bucket(Bucket=self._bucket)
        )


def attachment(file_name: str) -> str:
    """Return a Content-Disposition that saves under `file_name` (RFC 6266).

    The plain parameter is for readers that do not know the encoded one.
    """
    plain = "".join(
        char if " " <= char <= "~" and char not in '"\\%' else "_" for char in file_name
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"
