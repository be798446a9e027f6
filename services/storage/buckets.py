"""Keeps the own bucket set up: it exists, and old things leave it by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import structlog
from botocore.exceptions import ClientError

from services.common.errors import DomainError
from services.storage.keys import CACHE_PREFIX, PREVIEWS_PREFIX
from services.storage.metrics import Operation
from services.storage.s3 import S3, Refused

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.literals import BucketLocationConstraintType
    from types_boto3_s3.type_defs import LifecycleRuleTypeDef, LifecycleRuleUnionTypeDef

log = structlog.get_logger()

RETRY_SECONDS = 1.0
# Together below the time that health gives a check, so that the real problem is reported.
HEALTH_SECONDS = 2.0
SET_UP_SECONDS = 0.5

RULES: list[LifecycleRuleTypeDef] = [
    {
        "ID": "videoexport-cache",
        "Status": "Enabled",
        "Filter": {"Prefix": CACHE_PREFIX},
        "Expiration": {"Days": 7},
    },
    {
        "ID": "videoexport-previews",
        "Status": "Enabled",
        "Filter": {"Prefix": PREVIEWS_PREFIX},
        "Expiration": {"Days": 1},
    },
    {
        "ID": "videoexport-unfinished-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    },
]
_OUR_IDS = frozenset(rule["ID"] for rule in RULES)
_NO_RULES = "NoSuchLifecycleConfiguration"
# Rules are the operators' alone here, or the S3 server has none.
_NOT_FOR_US = frozenset({"AccessDenied", "NotImplemented", "MethodNotAllowed"})


class BucketKeeper:
    """Sets the own bucket up as soon as S3 can be reached, and again should it vanish."""

    def __init__(self, s3: S3, bucket: str, region: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._region = region
        self._ready = asyncio.Event()
        self._problem = "it is being made"

    async def run(self) -> None:
        """Keep the bucket set up for ever."""
        while True:
            if not self._ready.is_set():
                try:
                    await self._set_up()
                except DomainError as error:
                    self._problem = error.message
                except ClientError as error:
                    # Such as a region that S3 does not know: health says so until it is repaired.
                    self._problem = f"S3 refused with {error.response['Error']['Code']}"
                else:
                    self._ready.set()
                    log.info("bucket is set up", bucket=self._bucket)
            await asyncio.sleep(RETRY_SECONDS)

    async def check(self) -> str | None:
        """Return why the service cannot serve, or None; one HEAD of the bucket."""
        try:
            exists = await self._exists(HEALTH_SECONDS)
        except DomainError as error:
            return error.message
        if not exists:
            self._ready.clear()
        # Setting up takes a moment, and the next check would be a second away.
        with suppress(TimeoutError):
            async with asyncio.timeout(SET_UP_SECONDS):
                await self._ready.wait()
        return None if self._ready.is_set() else f"the bucket is not set up: {self._problem}"

    async def _set_up(self) -> None:
        if not await self._exists():
            await self._create()
        try:
            await self._set_rules()
        except Refused as refused:
            # Nothing is lost without them but space, so it is no reason not to serve.
            log.warning("lifecycle rules are not set up", bucket=self._bucket, cause=refused.code)

    async def _set_rules(self) -> None:
        rules = await self._rules()
        ours = {rule.get("ID"): _essence(rule) for rule in rules if rule.get("ID") in _OUR_IDS}
        if ours == {rule["ID"]: _essence(rule) for rule in RULES}:
            return
        # Writing replaces every rule, so those of the operators go back in.
        wanted = [*(rule for rule in rules if rule.get("ID") not in _OUR_IDS), *RULES]
        await self._s3.run(
            Operation.PUT_LIFECYCLE,
            lambda client: client.put_bucket_lifecycle_configuration(
                Bucket=self._bucket, LifecycleConfiguration={"Rules": wanted}
            ),
            expect=_NOT_FOR_US,
        )

    async def _exists(self, deadline: float = HEALTH_SECONDS) -> bool:
        try:
            await self._s3.run(
                Operation.HEAD_BUCKET,
                lambda client: client.head_bucket(Bucket=self._bucket),
                expect=frozenset({"404", "NoSuchBucket"}),
                deadline=deadline,
            )
        except Refused:
            return False
        return True

    async def _create(self) -> None:
        try:
            await self._s3.run(
                Operation.CREATE_BUCKET,
                lambda client: _create_bucket(client, self._bucket, self._region),
                # Another replica was faster.
                expect=frozenset({"BucketAlreadyOwnedByYou"}),
            )
        except Refused:
            return

    async def _rules(self) -> Sequence[LifecycleRuleUnionTypeDef]:
        try:
            answer = await self._s3.run(
                Operation.GET_LIFECYCLE,
                lambda client: client.get_bucket_lifecycle_configuration(Bucket=self._bucket),
                expect=_NOT_FOR_US | {_NO_RULES},
            )
        except Refused as refused:
            if refused.code != _NO_RULES:
                raise
            return []
        return answer["Rules"]


def _essence(rule: LifecycleRuleUnionTypeDef) -> dict[str, object]:
    """Return what a rule does; servers differ in how they write an empty prefix."""
    return {
        "Status": rule["Status"],
        "Filter": {kind: value for kind, value in rule.get("Filter", {}).items() if value},
        "Expiration": rule.get("Expiration"),
        "AbortIncompleteMultipartUpload": rule.get("AbortIncompleteMultipartUpload"),
    }


def _create_bucket(client: S3Client, bucket: str, region: str) -> None:
    # AWS wants the region named, except for the one where it must not be.
    if region == "us-east-1":
        client.create_bucket(Bucket=bucket)
    else:
        constraint = cast("BucketLocationConstraintType", region)
        client.create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": constraint}
        )
