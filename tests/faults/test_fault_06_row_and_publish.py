"""Fault 6: an API is killed between the row of a task and its message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psycopg
import pytest

from faults.cluster import FaultCluster, resume
from faults.relay import Relay
from services.common.subjects import TASKS_STREAM
from tests.e2e.small_exports import SMALL
from tests.faults.truth import Truth, completed, until
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
SHORT = Clip(frames=len(FRAMES))


@pytest.fixture
async def alone(faulty: FaultCluster) -> AsyncIterator[None]:
    """The other replica does nothing, so that what is not done is the first one's doing."""
    pid = faulty.pause("api-2")
    yield
    resume(pid)


@pytest.fixture
async def near(faulty: FaultCluster, client: AsyncClient) -> AsyncIterator[AsyncClient]:
    """A client of the first replica alone."""
    async with AsyncClient(faulty.cluster.api.address, user=client.user) as opened:
        yield opened


def ways_to(faulty: FaultCluster, servers: str) -> list[Relay]:
    """Return the first replica's ways to the servers whose names begin so."""
    return faulty.network.select(lambda part, server: part == "api" and server.startswith(servers))


async def is_locked(truth: Truth, task_id: str) -> bool:
    """Return whether a transaction holds a task."""
    try:
        await truth.rows("SELECT 1 FROM tasks WHERE id = %s FOR UPDATE NOWAIT", task_id)
    except psycopg.errors.LockNotAvailable:
        return True
    return False


async def killed(faulty: FaultCluster, truth: Truth, task_id: str) -> None:
    """Kill the first replica, and let nothing pass that it has sent and nobody has received."""
    faulty.cluster.kill("api")
    for relay in [*ways_to(faulty, "nats"), *ways_to(faulty, "postgres")]:
        relay.cut()

    async def is_rolled_back() -> bool:
        return not await is_locked(truth, task_id)

    await until(is_rolled_back)


@pytest.mark.usefixtures("alone")
async def test_task_whose_message_did_not_pass_is_sent_by_another_replica(
    faulty: FaultCluster,
    client: AsyncClient,
    near: AsyncClient,
    truth: Truth,
    clip: MakeClip,
    tmp_path: Path,
) -> None:
    video_id = await near.upload(clip(SHORT))
    for relay in ways_to(faulty, "nats"):
        relay.stalled = True
    created = await near.create_export(video_id, settings=SMALL)
    [task] = await truth.tasks(created.id)
    # By the transaction that sends it, which waits for NATS.
    await until(lambda: is_locked(truth, task["id"]))
    await killed(faulty, truth, task["id"])
    [task] = await truth.tasks(created.id)
    assert (task["state"], task["attempt"], task["run_count"]) == ("PENDING", 0, 0)
    assert await truth.messages(TASKS_STREAM) == 0

    faulty.heal()
    await completed(client, created.id, FRAMES, tmp_path)
    assert {(each["attempt"], each["run_count"]) for each in await truth.tasks(created.id)} == {
        (1, 1)
    }
    assert await truth.ends_told(created.id, "completed") == 1
    await truth.nothing_left(client.user)


@pytest.mark.usefixtures("alone")
async def test_task_whose_message_is_stored_and_not_marked_is_run_once(
    faulty: FaultCluster,
    client: AsyncClient,
    near: AsyncClient,
    truth: Truth,
    clip: MakeClip,
    tmp_path: Path,
) -> None:
    video_id = await near.upload(clip(SHORT))
    for relay in ways_to(faulty, "nats"):
        relay.stalled = True
    created = await near.create_export(video_id, settings=SMALL)
    [task] = await truth.tasks(created.id)
    await until(lambda: is_locked(truth, task["id"]))
    # The transaction waits for NATS. From here on that answers, and Postgres does not: the
    # message is stored, and the row cannot be marked. Nor does anyone take it.
    for encoder in faulty.cluster.encoders:
        faulty.pause(encoder.name)
    for relay in ways_to(faulty, "postgres"):
        relay.stalled = True
    for relay in ways_to(faulty, "nats"):
        relay.stalled = False

    async def is_stored() -> bool:
        return await truth.messages(TASKS_STREAM) == 1

    await until(is_stored)
    assert await is_locked(truth, task["id"])
    await killed(faulty, truth, task["id"])
    [task] = await truth.tasks(created.id)
    assert (task["state"], task["attempt"], task["run_count"]) == ("PENDING", 0, 0)
    assert await truth.messages(TASKS_STREAM) == 1

    # Sent again under the same id, which JetStream drops.
    faulty.network.heal()
    resume(faulty.cluster.pids["api-2"])

    async def is_sent() -> bool:
        [task] = await truth.tasks(created.id)
        return bool(task["state"] == "DISPATCHED")

    await until(is_sent)
    assert await truth.messages(TASKS_STREAM) == 1
    faulty.heal()
    await completed(client, created.id, FRAMES, tmp_path)
    assert {(each["attempt"], each["run_count"]) for each in await truth.tasks(created.id)} == {
        (1, 1)
    }
    await truth.nothing_left(client.user)
