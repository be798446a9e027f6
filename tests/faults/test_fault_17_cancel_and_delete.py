"""Faults 17 and 18: exports are cancelled and deleted in every state, also as they complete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from faults.cluster import FaultCluster
from faults.s3_door import Harm, Operation
from tests.faults.truth import Truth, completed, until
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient, ExportFailed, Refused
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
SHORT = Clip(frames=len(FRAMES))
# Longer than the cluster's threshold: made in parts.
LONG = Clip(rate=Fraction(5), frames=14 * 5, gop=5, clicks=None)
RACES = 8


def no_nats(faulty: FaultCluster) -> None:
    """Let no API reach NATS."""
    for relay in faulty.network.select(lambda api, nats: "api" in api and "nats" in nats):
        relay.closed = True
        relay.cut()


def no_encoder(faulty: FaultCluster) -> None:
    """Let every encoder sleep."""
    for number in (1, 2, 3):
        faulty.pause(f"encoder-{number}")


@dataclass(frozen=True)
class Moment:
    """What an export is held up by, and the task that it is then at.

    Attributes:
        known: whether its source was examined before.
    """

    held: Callable[[FaultCluster], object]
    kind: str
    state: str
    clip: Clip = SHORT
    known: bool = True


def stalled(operation: Operation, key: str) -> Callable[[FaultCluster], object]:
    """Return what leaves requests to S3 without an answer."""
    return lambda faulty: faulty.s3_door.harm(operation, Harm.STALL, times=None, key=key)


MOMENTS = {
    "queued": Moment(no_nats, "PROBE", "PENDING", known=False),
    "sent out": Moment(no_encoder, "PROBE", "DISPATCHED", known=False),
    "probing": Moment(stalled(Operation.GET, "videos/"), "PROBE", "RUNNING", known=False),
    "encoding": Moment(stalled(Operation.GET, "videos/"), "WHOLE", "RUNNING"),
    "uploading": Moment(stalled(Operation.PUT, "exports/"), "WHOLE", "RUNNING"),
    "completing": Moment(stalled(Operation.COMPLETE, "exports/"), "WHOLE", "RUNNING"),
    "assembling": Moment(stalled(Operation.PUT, "exports/"), "ASSEMBLE", "RUNNING", clip=LONG),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
async def test_cancel_and_delete_leave_nothing_of_an_export_that_is(
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, moment: Moment
) -> None:
    video_id = await client.upload(clip(moment.clip))
    if moment.known:
        first = await client.create_export(video_id, [(0, 0.4)])
        await client.wait(first.id)
    moment.held(faulty)
    cancelled, deleted = [await client.create_export(video_id) for _ in range(2)]

    async def are_held() -> bool:
        tasks = [await truth.tasks(each.id) for each in (cancelled, deleted)]
        there = all(
            (moment.kind, moment.state) in {(task["kind"], task["state"]) for task in each}
            for each in tasks
        )
        rules = faulty.s3_door.rules
        return there and (not rules or rules[0].met >= 2)

    await until(are_held)
    ended = await client.cancel(cancelled.id)
    await client.delete(deleted.id)
    assert ended.state == pb.EXPORT_STATE_CANCELLED
    faulty.heal()
    await truth.nothing_left(client.user)

    assert (await client.cancel(cancelled.id)).state == pb.EXPORT_STATE_CANCELLED
    with pytest.raises(Refused) as refused:
        await client.get(deleted.id)
    assert refused.value.reason == "EXPORT_NOT_FOUND"
    for each in (cancelled, deleted):
        assert await truth.ends_told(each.id, "cancelled") == 1
        assert await truth.ends_told(each.id, "completed") == 0


async def test_cancel_that_races_completion_has_one_of_two_ends(
    client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    first = await client.create_export(video_id, [(0, 0.4)])
    await client.wait(first.id)

    for number in range(RACES):
        frames = [*FRAMES, *range(number + 1)]
        created = await client.create_export(
            video_id, [(0, len(FRAMES) / 25), (0, (number + 1) / 25)]
        )

        async def is_running(export_id: str = created.id) -> bool:
            return bool((await truth.export(export_id))["state"] != "QUEUED")

        await until(is_running)
        await asyncio.sleep(0.1 * number)
        answer = await asyncio.gather(client.cancel(created.id), return_exceptions=True)
        match answer:
            case [pb.Export(state=pb.EXPORT_STATE_CANCELLED)]:
                with pytest.raises(ExportFailed):
                    await client.wait(created.id)
                told = "cancelled"
            case [Refused(reason="EXPORT_ENDED")]:
                await completed(client, created.id, frames, tmp_path)
                told = "completed"
            case _:
                raise AssertionError(answer)
        [other] = {"cancelled", "completed"} - {told}
        await until(lambda: _told(truth, created.id, told))  # noqa: B023
        assert await truth.ends_told(created.id, other) == 0
    await truth.nothing_left(client.user)


async def _told(truth: Truth, export_id: str, end: str) -> bool:
    return await truth.ends_told(export_id, end) == 1
