"""Fault 14: events come twice and out of their order, also long after they were acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from nats.aio.msg import Msg

from services.common.subjects import events_subject
from tests.faults.truth import Truth, completed
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient
from videoexport.v1 import task_pb2

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)


async def test_events_that_come_again_in_another_order_change_nothing(
    client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    seen: list[Msg] = []

    async def note(message: Msg) -> None:
        seen.append(message)

    subscription = await truth.nats.subscribe(events_subject("*"), cb=note)
    await truth.nats.flush()
    video_id = await client.upload(clip(Clip(frames=len(FRAMES))))
    created = await client.create_export(video_id)
    await completed(client, created.id, FRAMES, tmp_path)
    await truth.nothing_left(client.user)
    await subscription.unsubscribe()
    export, tasks = await truth.export(created.id), await truth.tasks(created.id)
    kinds = [task_pb2.TaskEvent.FromString(each.data).WhichOneof("kind") for each in seen]
    assert kinds == ["started", "succeeded"] * 2

    # As new messages, which JetStream does not know: as after the loss of its data.
    for message in [*reversed(seen), *seen]:
        await truth.js.publish(message.subject, message.data, headers={"Nats-Msg-Id": uuid4().hex})
    await truth.nothing_left(client.user)
    assert await truth.export(created.id) == export
    assert await truth.tasks(created.id) == tasks
    assert await truth.ends_told(created.id, "completed") == 1
    await completed(client, created.id, FRAMES, tmp_path)
