"""An export that takes some seconds, and what encoders say of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.msg import Msg

from services.common.nats import connect, first_connection
from services.common.subjects import events_subject
from services.local.cluster import LocalCluster
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

MakeClip = Callable[[Clip], Path]
Event = tuple[str, str]

# Some seconds of work for one thread.
LONG = Clip(frames=300, width=320, height=180, gop=50)
SLOW = pb.ExportSettings(resolution=pb.RESOLUTION_720P, quality=pb.QUALITY_HIGH)


async def start_long(client: AsyncClient, clip: MakeClip) -> pb.Export:
    """Start an export that takes a while, and return it once frames are coming out."""
    video_id = await client.upload(clip(LONG))
    created = await client.create_export(video_id, settings=SLOW)
    async with asyncio.timeout(60):
        async for export in client.watch(created.id):
            if export.encode_status.frames_done > 0:
                return export
    raise AssertionError("the export ended before it was seen running")


@asynccontextmanager
async def events_of(cluster: LocalCluster, export_id: str) -> AsyncIterator[list[Event]]:
    """Collect what encoders report of an export from now on: what, and who."""
    seen: list[Event] = []

    async def note(message: Msg) -> None:
        event = task_pb2.TaskEvent.FromString(message.data)
        if event.export_id == export_id:
            seen.append((str(event.WhichOneof("kind")), event.encoder_id))

    url = cluster.infrastructure.nats.url
    async with connect(url, name="test", on_closed=lambda: None) as nats:
        await first_connection(nats)
        await nats.subscribe(events_subject("*"), cb=note)
        await nats.flush()
        yield seen
