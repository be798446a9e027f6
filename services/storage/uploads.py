"""Multipart uploads: begin, verify and join, drop."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from os.path import commonprefix
from typing import TYPE_CHECKING
from urllib.parse import quote

import structlog

from services.common.errors import DomainError, Reason
from services.storage.keys import Location, Purpose, in_every_format
from services.storage.metrics import Operation, StorageMetrics
from services.storage.objects import FILE_NAME_METADATA, Objects, Stat
from services.storage.requests import NewUpload, PendingUpload, SentUpload, part_size
from services.storage.s3 import S3, Refused
from services.storage.settings import StorageSettings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef

log = structlog.get_logger()

# Joining thousands of parts takes S3 longer than any other request.
JOIN_SECONDS = 60

_NO_UPLOAD = frozenset({"NoSuchUpload"})
# Without the right to tag, or on a server without tags.
_NO_TAGS = frozenset({"AccessDenied", "NotImplemented", "MethodNotAllowed"})
# Without the right to list uploads, or on a server that cannot.
_NO_LISTING = frozenset({"AccessDenied", "NotImplemented"})
_BAD_PARTS = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall"})


@dataclass(frozen=True, slots=True)
class BegunUpload:
    """What a caller needs to send the parts.

    Attributes:
        upload_id: S3's id of the upload.
        part_size: bytes of every part but the last.
        urls: one for a PUT of each part, in order from part 1.
        expire_time: when the URLs stop working.
    """

    upload_id: str
    part_size: int
    urls: list[str]
    expire_time: datetime


class Uploads:
    """Uploads into the own bucket; the state of each is in S3 alone."""

    def __init__(
        self, s3: S3, objects: Objects, settings: StorageSettings, metrics: StorageMetrics
    ) -> None:
        self._s3 = s3
        self._objects = objects
        self._settings = settings
        self._metrics = metrics
        self._tags_refused = False

    async def begin(self, new: NewUpload) -> BegunUpload:
        """Begin an upload and sign a URL for each part.

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        location = new.location
        metadata = {FILE_NAME_METADATA: quote(new.file_name)} if new.file_name else {}
        answer = await self._s3.run(
            Operation.CREATE_UPLOAD,
            lambda client: client.create_multipart_upload(
                Bucket=location.bucket,
                Key=location.key,
                ContentType=location.content_type,
                Metadata=metadata,
            ),
        )
        pending = PendingUpload(location, answer["UploadId"])
        size = part_size(new.size_bytes, self._settings.part_size_bytes)
        lifetime = self._settings.upload_url_seconds
        expire_time = datetime.now(UTC) + timedelta(seconds=lifetime)
        urls = await self._s3.sign(
            lambda client: _sign_parts(client, pending, new.size_bytes, size, lifetime)
        )
        return BegunUpload(pending.upload_id, size, urls, expire_time)

    async def complete(self, sent: SentUpload) -> Stat:
        """Verify the parts, join them and return the object; a repetition returns it again.

        Raises:
            DomainError: UPLOAD_NOT_FOUND; UPLOAD_MISMATCH, after which the
                upload can still be repaired; STORAGE_UNAVAILABLE.
        """
        try:
            stat = await self._join(sent)
        except Refused:
            stat = await self._joined_before(sent)
        else:
            purpose = sent.pending.location.purpose
            self._metrics.uploaded_bytes.labels(purpose=purpose).inc(stat.size_bytes)
        # After joining, because S3 takes metadata only when an upload begins; in
        # a repetition again, because the first call may have ended in between.
        await self._keep_digest(sent)
        await self._drop_others(sent.pending.location)
        return stat

    async def _drop_others(self, location: Location) -> None:
        """Drop what earlier tries have begun of a run's own object, where the answer was lost.

        Nobody knows such an upload any more. A part in the cache may have another sender on the
        way, and a source gets another name with every try: what is left of these, the bucket's
        rules drop in a day.
        """
        if location.purpose not in (Purpose.EXPORT, Purpose.PREVIEW):
            return
        try:
            await self.abort_all([location])
        except DomainError as error:
            log.info("unfinished uploads left to the bucket's rules", reason=error.reason)

    async def abort(self, pending: PendingUpload) -> None:
        """Drop an unfinished upload with its parts; one that is gone already is fine.

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        try:
            await self._s3.run(
                Operation.ABORT_UPLOAD,
                lambda client: client.abort_multipart_upload(
                    Bucket=pending.location.bucket,
                    Key=pending.location.key,
                    UploadId=pending.upload_id,
                ),
                expect=_NO_UPLOAD,
            )
        except Refused:
            return

    async def abort_all(self, locations: Sequence[Location]) -> None:
        """Drop whatever uploads to places of the own bucket are unfinished.

        Whoever began them may be gone without a word. Where S3 does not let them be listed,
        the bucket's rules drop them in a day.

        Raises:
            DomainError: STORAGE_UNAVAILABLE.
        """
        by_key = {each.key: each for location in locations for each in in_every_format(location)}
        # One listing for all of a kind: they are of one user, who has few uploads at a time.
        for _, keys in groupby(sorted(by_key), key=lambda key: key.partition("/")[0]):
            prefix = commonprefix(list(keys))  # noqa: RUF071 — S3 compares characters as well
            for key, upload_id in await self._unfinished(locations[0].bucket, prefix):
                if key in by_key:
                    await self.abort(PendingUpload(by_key[key], upload_id))

    async def _unfinished(self, bucket: str, prefix: str) -> list[tuple[str, str]]:
        """Return key and id of every unfinished upload below a prefix."""
        try:
            return await self._s3.run(
                Operation.LIST_UPLOADS,
                lambda client: _list_uploads(client, bucket, prefix),
                expect=_NO_LISTING,
            )
        except Refused:
            return []

    async def _join(self, sent: SentUpload) -> Stat:
        location = sent.pending.location
        stored = await self._s3.run(
            Operation.LIST_PARTS,
            lambda client: _stored_parts(client, sent.pending),
            expect=_NO_UPLOAD,
            deadline=JOIN_SECONDS,
        )
        check_parts(sent, stored)
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": f'"{md5}"'} for number, md5 in enumerate(sent.md5s, 1)
        ]
        try:
            await self._s3.run(
                Operation.COMPLETE_UPLOAD,
                lambda client: client.complete_multipart_upload(
                    Bucket=location.bucket,
                    Key=location.key,
                    UploadId=sent.pending.upload_id,
                    MultipartUpload={"Parts": parts},
                ),
                expect=_NO_UPLOAD | _BAD_PARTS,
                deadline=JOIN_SECONDS,
            )
        except Refused as refused:
            if refused.code in _NO_UPLOAD:
                raise
            raise DomainError(
                Reason.UPLOAD_MISMATCH,
                "S3 cannot join the parts: one has changed, or one but the last is too small.",
            ) from None
        stat = await self._objects.stat(location)
        if stat is None:
            raise location.missing()
        return stat

    async def _joined_before(self, sent: SentUpload) -> Stat:
        stat = await self._objects.stat(sent.pending.location)
        if stat is None or (stat.etag, stat.size_bytes) != (joined_etag(sent), sent.size_bytes):
            raise DomainError(
                Reason.UPLOAD_NOT_FOUND, "There is no such upload; it may have been aborted."
            )
        return stat

    async def _keep_digest(self, sent: SentUpload) -> None:
        if not sent.sha256:
            return
        location = sent.pending.location
        try:
            await self._s3.run(
                Operation.PUT_TAGS,
                lambda client: client.put_object_tagging(
                    Bucket=location.bucket,
                    Key=location.key,
                    Tagging={"TagSet": [{"Key": "sha256", "Value": sent.sha256}]},
                ),
                expect=_NO_TAGS,
            )
        except Refused as refused:
            # The digest is for people who look at the bucket; no service reads it.
            if not self._tags_refused:
                self._tags_refused = True
                log.warning("objects are not tagged with their sha256", cause=refused.code)


def check_parts(sent: SentUpload, stored: dict[int, dict[str, int]]) -> None:
    """Compare what was announced with what S3 stores.

    Args:
        sent: the announcement.
        stored: size in bytes by ETag, by part number.

    Raises:
        DomainError: UPLOAD_MISMATCH naming the parts.
    """
    missing, different, total = [], [], 0
    for number, md5 in enumerate(sent.md5s, 1):
        if number not in stored:
            missing.append(number)
        elif md5 not in stored[number]:
            different.append(number)
        else:
            total += stored[number][md5]
    problems = []
    if missing:
        problems.append(f"not stored: {_parts(missing)}")
    if different:
        problems.append(f"stored with another MD5: {_parts(different)}")
    if not problems and total != sent.size_bytes:
        problems.append(f"the parts hold {total} bytes, {sent.size_bytes} were announced")
    if problems:
        raise DomainError(Reason.UPLOAD_MISMATCH, f"The upload differs: {'; '.join(problems)}.")


def joined_etag(sent: SentUpload) -> str:
    """Return the ETag that S3 gives the object joined from these parts."""
    # How S3 defines it: MD5 over the parts' binary digests, a dash, their number.
    digest = hashlib.md5(b"".join(map(bytes.fromhex, sent.md5s)), usedforsecurity=False)
    return f"{digest.hexdigest()}-{len(sent.md5s)}"


def _stored_parts(client: S3Client, pending: PendingUpload) -> dict[int, dict[str, int]]:
    # A part sent twice may be listed twice (SeaweedFS), under the old and the
    # new ETag; the announced one is picked by its ETag, so all are kept.
    stored: dict[int, dict[str, int]] = defaultdict(dict)
    pages = client.get_paginator("list_parts").paginate(
        Bucket=pending.location.bucket, Key=pending.location.key, UploadId=pending.upload_id
    )
    for page in pages:
        for part in page.get("Parts", []):
            stored[part["PartNumber"]][part["ETag"].strip('"')] = part["Size"]
    return dict(stored)


def _list_uploads(client: S3Client, bucket: str, prefix: str) -> list[tuple[str, str]]:
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
    return [(item["Key"], item["UploadId"]) for page in pages for item in page.get("Uploads", [])]


def _sign_parts(
    client: S3Client, pending: PendingUpload, size_bytes: int, size: int, lifetime: int
) -> list[str]:
    # The length is signed, so S3 refuses to store more than was announced. The
    # MD5 cannot be: it is not known yet. S3 verifies it because it is sent.
    return [
        client.generate_presigned_url(
            "upload_part",
            Params={
                "Bucket": pending.location.bucket,
                "Key": pending.location.key,
                "UploadId": pending.upload_id,
                "PartNumber": number,
                "ContentLength": min(size, size_bytes - offset),
            },
            ExpiresIn=lifetime,
        )
        for number, offset in enumerate(range(0, size_bytes, size), 1)
    ]


def _parts(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"part{'s' if len(numbers) > 1 else ''} {shown}{more}"
