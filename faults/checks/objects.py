"""Objects in S3: each has its row, each row its object, and the bytes are those of the row."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from faults.checks.evidence import Evidence
from faults.journal import Violation
from faults.rows import Row
from services.local.cluster import BUCKET

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# From the start of an upload to its end; the files here are small.
LONGEST_UPLOAD = timedelta(seconds=10)
OUTPUTS = """
    SELECT id, user_id, output_run_id, output FROM exports
    WHERE state = 'COMPLETED' AND user_id = ANY(%(users)s)
"""
PARTS = "SELECT user_id, key FROM cached_parts WHERE user_id = ANY(%(users)s)"


def output_key(row: Row) -> str:
    """Return where the output of an export lies."""
    return f"exports/{row['user_id']}/{row['id']}/{row['output_run_id']}.mp4"


async def outputs_are_stored(evidence: Evidence) -> list[Violation]:
    """Every completed export's object has the digest of its row; no other output is there."""
    rule = "every output is stored, and no other"
    rows = await evidence.rows.ask(OUTPUTS, users=evidence.journal.users)
    wanted = {output_key(row): row for row in rows}
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
    """Every source whose upload was answered is there, and no more than may be beside them."""
    journal = evidence.journal
    wanted = {f"videos/{user}/{video}" for user, video in journal.sources}
    found = []
    for user in journal.users:
        stored = await asyncio.to_thread(_keys, _client(evidence), [f"videos/{user}/"])
        surplus = sorted(stored - wanted)
        if len(surplus) > journal.unsure_uploads[user]:
            text = f"nobody was told of it; {journal.unsure_uploads[user]} uploads were given up"
            found += [Violation("no object is left over", key, text) for key in surplus]
        wanted -= stored
    return found + [Violation("every source is stored", key, "it is not there") for key in wanted]


async def parts_are_known(evidence: Evidence) -> list[Violation]:
    """Every part in the cache is known, but for those of encoders that were hit meanwhile."""
    rows = await evidence.rows.ask(PARTS, users=evidence.journal.users)
    known = {f"cache/{row['user_id']}/{row['key'].hex()}" for row in rows}
    stored = await asyncio.to_thread(_written, _client(evidence), evidence.journal.users)
    return [
        Violation("every part is known", key, f"no row has it; written at {at}")
        for key, at in stored.items()
        if key not in known and not evidence.struck(at - LONGEST_UPLOAD, at)
    ]


async def no_previews(evidence: Evidence) -> list[Violation]:
    """Nobody has asked for any."""
    prefixes = [f"previews/{user}/" for user in evidence.journal.users]
    stored = await asyncio.to_thread(_keys, _client(evidence), prefixes)
    return [Violation("no object is left over", key, "a preview") for key in stored]


async def no_upload_is_left(evidence: Evidence) -> list[Violation]:
    """No upload of an output is left unfinished, whatever became of its encoder.

    One of a source or a part may be, where a fault struck while it was sent: its sender alone
    knows of it. The bucket's rule removes it after a day.
    """
    return [
        Violation("no upload is left over", item["Key"], f"begun at {item['Initiated']}")
        for item in await unfinished_uploads(evidence)
        if item["Key"].startswith("exports/")
        or not evidence.struck(item["Initiated"], item["Initiated"] + LONGEST_UPLOAD)
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


def _client(evidence: Evidence) -> S3Client:
    return evidence.faulty.cluster.infrastructure.s3.client()


def _keys(client: S3Client, prefixes: list[str]) -> set[str]:
    return {item["Key"] for prefix in prefixes for item in _below(client, prefix)}


def _written(client: S3Client, users: list[str]) -> dict[str, datetime]:
    """Return the parts in the cache of users, and when each was written."""
    found = (item for user in users for item in _below(client, f"cache/{user}/"))
    return {item["Key"]: item["LastModified"] for item in found}


def _below(client: S3Client, prefix: str) -> Iterator[Mapping[str, Any]]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return (item for page in pages for item in page.get("Contents", []))


def _other_bytes(client: S3Client, wanted: dict[str, Row]) -> list[Violation]:
    found = []
    for key, row in wanted.items():
        data = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        digest = hashlib.sha256(data).hexdigest()
        if digest != row["output"]["sha256"]:
            text = f"{len(data)} bytes with {digest}; the row has {row['output']['sha256']}"
            found.append(Violation("every output is the one of its row", row["id"], text))
    return found
