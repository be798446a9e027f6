"""Faults 17 and 18: exports are cancelled and deleted in every state, also as they complete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from faults.cluster import FaultCluster
from faults.s3_door import Harm, Operation, Rule
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import shut
from tests.faults.truth import Truth, completed, until
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient, ExportFailed, Refused
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
FRAMES = range(20)
SHORT = Clip(frames=len(FRAMES))
# Longer than the cluster's threshold: made in parts.
LONG = Clip(rate=Fraction(5), frames=14 * 5, gop=5, clicks=None)
# Seconds after which an export is cancelled whose file S3 is told to join: before it is, then
# later and later, then when it is known to have ended.
JOINING, ENDED = -1.0, 3600.0
RACES = (JOINING, 0.0, 0.02, ENDED)


def no_nats(faulty: FaultCluster) -> None:
    """Let no API reach NATS."""
    shut(faulty.network.select(lambda api, nats: "api" in api and "nats" in nats))


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
        first = await client.create_export(video_id, [(0, 0.4)], settings=SMALL)
        await client.wait(first.id)
    moment.held(faulty)
    cancelled, deleted = [await client.create_export(video_id, settings=SMALL) for _ in range(2)]

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
    faulty: FaultCluster, client: AsyncClient, truth: Truth, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(SHORT))
    await client.plan(video_id, settings=SMALL)
    ends = []
    for number, after in enumerate(RACES):
        frames = [*FRAMES, *range(number + 1)]
        joining = faulty.s3_door.harm(
            Operation.COMPLETE, Harm.SLOW, key=f"exports/{client.user}/", seconds=60
        )
        created = await client.create_export(
            video_id, [(0, len(FRAMES) / 25), (0, (number + 1) / 25)], settings=SMALL
        )

        async def is_joining(rule: Rule = joining) -> bool:
            return rule.met == 1

        await until(is_joining)
        if after != JOINING:
            joining.over.set()
            await (client.wait(created.id) if after == ENDED else asyncio.sleep(after))
        cancelled = await _cancelled(client, created.id)
        joining.over.set()
        if cancelled:
            with pytest.raises(ExportFailed):
                await client.wait(created.id)
        else:
            await completed(client, created.id, frames, tmp_path)
        told, other = ("cancelled", "completed") if cancelled else ("completed", "cancelled")
        await until(lambda: _told(truth, created.id, told))  # noqa: B023
        assert await truth.ends_told(created.id, other) == 0
        ends.append(told)
    print(f"cancelled as they completed: {ends}")
    assert (ends[0], ends[-1]) == ("cancelled", "completed")
    await truth.nothing_left(client.user)


async def _cancelled(client: AsyncClient, export_id: str) -> bool:
    """Cancel an export; return whether it was not too late."""
    try:
        answer = await client.cancel(export_id)
    except Refused as refused:
        if refused.reason != "EXPORT_ENDED":
            raise
        return False
    assert answer.state == pb.EXPORT_STATE_CANCELLED
    return True


async def _told(truth: Truth, export_id: str, end: str) -> bool:
    return await truth.ends_told(export_id, end) == 1
