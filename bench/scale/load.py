"""Exports of many users, so many and so long that no slot is ever without work.

Lengths are mixed, so that some end and others begin all the time; no two exports of a user
show the same pictures, so nothing is there already.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration

from bench.scale.source import SECONDS
from bench.stage import CALL_TIMEOUT_S, SETTINGS
from services.local.cluster import SOURCE_BUCKETS
from services.local.s3 import S3Part
from videoexport.channel import call_metadata, open_channel
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub

if TYPE_CHECKING:
    from videoexport.v1.export_service_pb2_grpc import ExportServiceAsyncStub

KEY = "bench/scale.mp4"
SOURCE = pb.Source(s3_object=pb.S3Object(bucket=SOURCE_BUCKETS[0], key=KEY))
SHORTEST_S, LONGEST_S = 120, 900
# Chunks end on keyframes, so most are as long as they should be.
MOST_CHUNK_S = 8
CALLERS = 8
PLAN_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Wish:
    """An export to create; its times are seconds of the source."""

    user: str
    start: int
    end: int


def wishes(users: int, seconds: int, *, seed: int = 1) -> list[Wish]:
    """Return exports of `seconds` of output and more, of as many users, in the order of asking.

    Args:
        seconds: of all together.
    """
    chance = random.Random(seed)
    found: list[Wish] = []
    places = [0] * users
    while sum(places) < seconds and min(places) < SECONDS:
        # Everybody asks for one, then everybody for the next.
        for user, start in enumerate(places):
            if start < SECONDS:
                end = min(SECONDS, start + chance.randint(SHORTEST_S, LONGEST_S))
                found.append(Wish(f"user-{user + 1}", start, end))
                places[user] = end
    return found


def backlog(tasks: int) -> list[Wish]:
    """Return exports of the whole source, each of another user, with so many chunks at least."""
    users = math.ceil(tasks / (SECONDS / MOST_CHUNK_S))
    return [Wish(f"waiting-{user + 1}", 0, SECONDS) for user in range(users)]


def put_source(s3: S3Part) -> None:
    """Store the object that is taken for the source."""
    s3.client().put_object(Bucket=SOURCE_BUCKETS[0], Key=KEY, Body=b"two hours of film".ljust(1024))


async def ask(address: str, wanted: Sequence[Wish]) -> None:
    """Create the exports at the API; the first is planned before the others are asked for."""
    async with open_channel(address) as channel:
        stub: ExportServiceAsyncStub = ExportServiceStub(channel)
        first, *others = wanted
        await _until_planned(stub, first, await _create(stub, first))
        waiting = iter(others)

        async def caller() -> None:
            for wish in waiting:
                await _create(stub, wish)

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(caller())


async def _create(stub: ExportServiceAsyncStub, wish: Wish) -> str:
    segment = pb.Segment(
        start_time=Duration(seconds=wish.start), end_time=Duration(seconds=wish.end)
    )
    request = service.CreateExportRequest(
        source=SOURCE, segments=[segment], settings=SETTINGS, request_id=uuid4().hex
    )
    answer = await stub.CreateExport(
        request, metadata=call_metadata(wish.user), timeout=CALL_TIMEOUT_S
    )
    return answer.export.id


async def _until_planned(stub: ExportServiceAsyncStub, wish: Wish, export_id: str) -> None:
    """Wait for the probe: later exports of the source then need none."""
    async with asyncio.timeout(PLAN_TIMEOUT_S):
        while True:
            answer = await stub.GetExport(
                service.GetExportRequest(export_id=export_id),
                metadata=call_metadata(wish.user),
                timeout=CALL_TIMEOUT_S,
            )
            if answer.export.plan.frame_count:
                return
            await asyncio.sleep(0.1)
