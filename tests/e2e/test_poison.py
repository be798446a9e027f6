"""Messages that are no task of this version are settled, and do not block the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from services.common import ids
from services.common.nats import connect, first_connection
from services.common.subjects import TASKS_STREAM, Lane, events_subject, task_subject
from services.local.cluster import LocalCluster
from tests.e2e.small_exports import SMALL
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

MakeClip = Callable[[Clip], Path]
SHORT = Clip(rate=Fraction(25), frames=50)


@pytest.mark.usefixtures("idle")
async def test_poison_is_settled_and_the_next_export_is_done(
    cluster: LocalCluster, client: AsyncClient, clip: MakeClip
) -> None:
    events: dict[str, list[task_pb2.TaskEvent]] = {}
    garbage, unknown = ids.task_id(), ids.task_id()

    async def note(message: Msg) -> None:
        event = task_pb2.TaskEvent.FromString(message.data)
        events.setdefault(event.task_id, []).append(event)

    # The queue is there once an export has passed it.
    video_id = await client.upload(clip(SHORT))
    first = await client.create_export(video_id, settings=SMALL)
    async with asyncio.timeout(60):
        await client.wait(first.id)

    url = cluster.infrastructure.nats.url
    async with connect(url, name="test", on_closed=lambda: None) as nats:
        await first_connection(nats)
        await nats.subscribe(events_subject("*"), cb=note)
        js = nats.jetstream()
        # As many as there are slots, so that none is left if each of them were held.
        for _ in range(2):
            await js.publish(task_subject(Lane.CPU, garbage), b"\xff\xff\xff\xff")
        # What a newer API might send: a kind of work that is not known here.
        task = task_pb2.Task(task_id=unknown, export_id=ids.export_id(), user_id="-", attempt=1)
        await js.publish(task_subject(Lane.CPU, unknown), task.SerializeToString())

        created = await client.create_export(video_id, settings=SMALL)
        async with asyncio.timeout(60):
            done = await client.wait(created.id)
            while (await js.stream_info(TASKS_STREAM)).state.messages:
                await asyncio.sleep(0.1)
        assert done.state == pb.EXPORT_STATE_COMPLETED
    assert garbage not in events
    *_, last = events[unknown]
    assert last.failed.code == "INTERNAL"
    assert last.failed.message == "The encoder is older than the API and cannot do this yet."
