"""Fault 7: an API is killed between the commit of an event and its acknowledgement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from faults.cluster import FaultCluster
from faults.relay import Relay
from services.common.subjects import EVENTS_STREAM, events_subject
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import shut
from tests.faults.truth import Truth, completed, until
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient
from videoexport.v1 import task_pb2

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
# Seconds that a word of the API takes to NATS: time to be killed in before its
# acknowledgement is there. Less than the two seconds that
# the API waits for an answer.
SLOW_S = 0.5


async def last_event(truth: Truth, task_id: str) -> str:
    """Return what the last event of a task says that is not acknowledged."""
    message = await truth.js.get_last_msg(EVENTS_STREAM, events_subject(task_id))
    return str(task_pb2.TaskEvent.FromString(message.data or b"").WhichOneof("kind"))


@pytest.mark.long
async def test_events_that_were_applied_and_not_acknowledged_change_nothing_again(
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(Clip(frames=len(FRAMES))))

    def ways(api: str) -> list[Relay]:
        return faulty.network.select(lambda part, server: part == api and "nats" in server)

    def hear_alone(api: str, other: str) -> None:
        shut(ways(other))
        for relay in ways(api):
            relay.closed = False
            relay.delay_up = SLOW_S

    def kill(api: str) -> None:
        faulty.cluster.kill(api)
        for relay in ways(api):
            relay.cut()

    # The event of the probe plans the export.
    hear_alone("api", "api-2")
    created = await client.create_export(video_id, settings=SMALL)

    async def is_planned() -> bool:
        return len(await truth.tasks(created.id)) == 2

    await until(is_planned)
    kill("api")
    probe, whole = await truth.tasks(created.id)
    assert probe["state"] == "SUCCEEDED"
    assert await last_event(truth, probe["id"]) == "succeeded"

    # The event of the encode completes it.
    hear_alone("api-2", "api")

    async def is_completed() -> bool:
        return bool((await truth.export(created.id))["state"] == "COMPLETED")

    await until(is_completed)
    kill("api-2")
    assert await last_event(truth, whole["id"]) == "succeeded"
    export, tasks = await truth.export(created.id), await truth.tasks(created.id)

    # They come again, and are acknowledged.
    faulty.heal()
    await truth.nothing_left(client.user)
    assert await truth.export(created.id) == export
    assert await truth.tasks(created.id) == tasks
    assert [task["run_count"] for task in tasks] == [1, 1]
    assert await truth.ends_told(created.id, "completed") == 1
    await completed(client, created.id, FRAMES, tmp_path)
