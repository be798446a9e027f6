"""Fault 14: events come twice and out of their order, also long after they were acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import uuid4

from nats.aio.msg import Msg

from faults.cluster import FaultCluster
from services.common.subjects import events_subject
from tests.e2e.small_exports import SMALL
from tests.faults.truth import Truth, completed, until
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient
from videoexport.v1 import task_pb2

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
AGAIN = "Test-Again"


class Echo:
    """Says every event again as it comes, after all those before it, the newest first.

    Each as a new message, which JetStream does not know: as after the loss of its data.

    Attributes:
        seen: the events of encoders, in order.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.seen: list[Msg] = []

    @property
    def kinds(self) -> list[str]:
        """What was said, in order."""
        return [str(_event(each).WhichOneof("kind")) for each in self.seen]

    async def note(self, message: Msg) -> None:
        """Take an event, unless it is our own."""
        if AGAIN not in (message.headers or {}):
            self.seen.append(message)
            await self.say(reversed(self.seen))

    async def say(self, messages: Iterable[Msg]) -> None:
        """Say events again."""
        for each in messages:
            headers = {"Nats-Msg-Id": uuid4().hex, AGAIN: "yes"}
            await self._truth.js.publish(each.subject, each.data, headers=headers)


async def test_events_that_come_again_in_another_order_change_nothing(
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    echo = Echo(truth)
    subscription = await truth.nats.subscribe(events_subject("*"), cb=echo.note)
    await truth.nats.flush()
    # The first run of the encode fails: what it said comes again while the next one works.
    for disk in faulty.disks.values():
        disk.fill()
    video_id = await client.upload(clip(Clip(frames=len(FRAMES))))
    created = await client.create_export(video_id, settings=SMALL)

    async def has_failed() -> bool:
        return "failed" in echo.kinds

    await until(has_failed)
    faulty.heal()
    await completed(client, created.id, FRAMES, tmp_path)
    await truth.nothing_left(client.user)
    await subscription.unsubscribe()
    assert echo.kinds == ["started", "succeeded", "started", "failed", "started", "succeeded"]
    export, tasks = await truth.export(created.id), await truth.tasks(created.id)
    assert [(task["attempt"], task["run_count"]) for task in tasks] == [(1, 1), (2, 2)]

    # Long after its end as well.
    await echo.say([*reversed(echo.seen), *echo.seen])
    await truth.nothing_left(client.user)
    assert await truth.export(created.id) == export
    assert await truth.tasks(created.id) == tasks
    assert await truth.times_completed(created.id) == 1
    assert await truth.ends_told(created.id, "completed") == 1
    await completed(client, created.id, FRAMES, tmp_path)


def _event(message: Msg) -> task_pb2.TaskEvent:
    return task_pb2.TaskEvent.FromString(message.data)
