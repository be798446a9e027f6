"""What finished encodes teach of the speed of their kind."""

from __future__ import annotations

import asyncio

import pytest
from api_rig import PLAN, Rig

from services.api.encode_kind import EncodeKind
from services.api.store.backlog import Speed
from services.api.store.knowledge import REMEMBERED_FRAMES, REMEMBERED_RUNS, learn_speed
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

MEDIUM = EncodeKind(pb.ENCODER_FAMILY_CPU, pb.RESOLUTION_720P, pb.QUALITY_MEDIUM)
GPU_FALLBACK = pb.ExportWarning(code="GPU_FALLBACK", message="The GPU could not do it.")


async def learn(rig: Rig, frames: int, fps: float, seconds: float | None = None) -> Speed:
    """Let an encode end; return what is known then."""
    case = await rig.create()
    await rig.sql("UPDATE tasks SET frames = %s WHERE id = %s", frames, case.task.id)
    await case.begin(case.task.id)
    await case.succeeded(case.task.id, fps=fps, seconds=seconds or frames / max(1, fps))
    speeds = (await rig.backlog.read()).speeds
    assert set(speeds) <= {MEDIUM}
    [speed] = speeds.values() or [Speed(0, 0)]
    return speed


async def test_speed_is_frames_over_seconds_of_all_encodes(rig: Rig) -> None:
    assert await learn(rig, 100, 0) == Speed(0, 0)
    assert (await learn(rig, 100, 20)).frames_per_second == pytest.approx(20)
    # A short encode, slow for its start, counts for little: 100 frames in 5 s, 900 in 9 s.
    assert (await learn(rig, 900, 100)).frames_per_second == pytest.approx(1000 / 14)
    assert (await learn(rig, 100, 0)).frames_per_second == pytest.approx(1000 / 14)


async def test_speed_follows_the_newest_encodes(rig: Rig) -> None:
    await learn(rig, 1_000_000, 100)
    # As much as is remembered.
    found = await learn(rig, REMEMBERED_FRAMES, 50)
    assert found.frames_per_second == pytest.approx(1 / (0.5 / 100 + 0.5 / 50))


async def test_time_of_a_run_beside_its_encode_is_averaged(rig: Rig) -> None:
    assert (await learn(rig, 100, 50, seconds=5)).overhead_seconds == pytest.approx(3)
    assert (await learn(rig, 100, 50, seconds=3)).overhead_seconds == pytest.approx(2)
    # A clock that is a little off makes no time that is negative.
    assert (await learn(rig, 100, 50, seconds=1)).overhead_seconds == pytest.approx(4 / 3)
    await rig.sql("UPDATE encode_speeds SET samples = 1000, overhead_seconds = 0")
    found = await learn(rig, 100, 50, seconds=3)
    assert found.overhead_seconds == pytest.approx(1 / REMEMBERED_RUNS)


async def test_encodes_that_end_together_do_not_wait_to_be_learnt_from(rig: Rig) -> None:
    await learn(rig, 100, 20)
    fast = task_pb2.TaskSucceeded(frames_per_second=500)
    async with rig.database.transaction() as first:
        await learn_speed(first, pb.ENCODER_FAMILY_CPU, PLAN, 100, fast)
        async with asyncio.timeout(2), rig.database.transaction() as second:
            await learn_speed(second, pb.ENCODER_FAMILY_CPU, PLAN, 100, fast)
    assert await rig.value("SELECT samples FROM encode_speeds") == 2
