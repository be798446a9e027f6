"""Exports of the least pictures there are, for tests of something else than pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

SMALL = pb.ExportSettings(resolution=pb.RESOLUTION_SOURCE, quality=pb.QUALITY_LOW)


async def finished(
    client: AsyncClient,
    video_id: str,
    segments: Sequence[tuple[float, float]] = (),
    **settings: Any,
) -> pb.Export:
    """Export, and wait."""
    wanted = pb.ExportSettings()
    wanted.CopyFrom(SMALL)
    wanted.MergeFrom(pb.ExportSettings(**settings))
    created = await client.create_export(video_id, segments, settings=wanted)
    async with asyncio.timeout(180):
        return await client.wait(created.id)
