"""Objects in S3: each has its row, each row its object, and the bytes are those of the row."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from faults.checks.evidence import Evidence
from faults.journal import Violation
from faults.rows import Row
from services.local.cluster import BUCKET

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# From the start of an upload to its end; the files here are small.
LONGEST_UPLOAD = timedelta(seconds=30)
OUTPUTS = """
    SELECT id, user_id, output_run_id, output FROM exports
    WHERE state = 'COMPLETED' AND user_id = ANY(%(users)s)
"""


async def outputs_are_stored(evidence: Evidence) -> list[Violation]:
    """Every completed export's object has the digest of its row; no other output is there."""
    rule = "every output is stored, and no other"
    rows = await evidence.rows.ask(OUTPUTS, users=evidence.journal.users)
    wanted = {
        f"exports/{row['user_id']}/{row['id']}/{row['output_run_id']}.mp4": row for row in rows
    }
    client = _client(evidence)
    users = evidence.journal.users
    stored = await asyncio.to_thread(_keys, client, [f"exports/{user}/" for user in users])
    found = [Violation(rule, key, "no export has it") for key in stored - wanted.keys()]
    found += [
        Violation(rule, wanted[key]["id"], f"{key} is not there") for key in wanted.keys() - stored
    ]
    there = {key: wanted[key] for key in wanted.keys() & stored}
    return found + await asyncio.to_thread(_other_bytes, client, there)


async def sources_are_stored(evidence: Evidence) -> list[Violation]:
    """Every source whose upload was answered is there."""
    users = evidence.journal.users
    wanted = {f"videos/{user}/{video}" for user, video in evidence.journal.sources}
    prefixes = [f"videos/{user}/" for user in users]
    stored = await asyncio.to_thread(_keys, _client(evidence), prefixes)
    return [Violation("every source is stored", key, "it is not there") for key in wanted - stored]


async def no_previews(evidence: Evidence) -> list[Violation]:
    """Nobody has asked for any."""
    prefixes = [f"previews/{user}/" for user in evidence.journal.users]
    stored = await asyncio.to_thread(_keys, _client(evidence), prefixes)
    return [Violation("no object is left over", key, "a preview") for key in stored]


async def unfinished_uploads_are_explained(evidence: Evidence) -> list[Violation]:
    """An upload that was never ended was begun while a fault kept its sender from that.

    The bucket's rule removes such uploads after a day.
    """
    return [
        Violation("no upload is left over", item["Key"], f"begun at {item['Initiated']}")
        for item in await unfinished_uploads(evidence)
        if not evidence.disturbed(item["Initiated"], item["Initiated"] + LONGEST_UPLOAD)
    ]


async def unfinished_uploads(evidence: Evidence) -> list[dict[str, Any]]:
    """Return what was begun to be uploaded for the users of the campaign, and not ended."""
    owners = tuple(f"/{user}/" for user in evidence.journal.users)
    client = _client(evidence)

    def look() -> list[dict[str, Any]]:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET)
        found = (dict(item) for page in pages for item in page.get("Uploads", []))
        return [item for item in found if any(owner in item["Key"] for owner in owners)]

    return await asyncio.to_thread(look)


def _key(row: Row) -> str:
    return f"exports/{row['user_id']}/{row['id']}/{row['output_run_id']}.mp4"


def _client(evidence: Evidence) -> S3Client:
    return evidence.faulty.cluster.infrastructure.s3.client()


def _keys(client: S3Client, prefixes: list[str]) -> set[str]:
    return {key for prefix in prefixes for key in _below(client, prefix)}


def _below(client: S3Client, prefix: str) -> Iterator[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return (item["Key"] for page in pages for item in page.get("Contents", []))


def _other_bytes(client: S3Client, wanted: dict[str, Row]) -> list[Violation]:
    found = []
    for key, row in wanted.items():
        data = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        digest = hashlib.sha256(data).hexdigest()
        if digest != row["output"]["sha256"]:
            text = f"{len(data)} bytes with {digest}; the row has {row['output']['sha256']}"
            found.append(Violation("every output is the one of its row", row["id"], text))
    return found
