"""What owners are told to expect, from real rows."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from api_long import long_export
from api_rig import PLAN, Case, Rig

from services.api.encoders import LiveEncoders
from services.api.forecast import STANDS_COSTS, STANDS_SECONDS, UNKNOWN_SECONDS, Estimate, Forecast
from services.api.progress import LiveProgress
from services.api.remaining import HANDOVER_SECONDS
from services.api.store import BacklogStore
from services.api.store.backlog import WorkLeft
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# Frames per second that the cluster has measured, and seconds of a task beside its frames.
SPEED, OVERHEAD = 10.0, 1.0
# A whole export of the rig has 100 frames.
EACH = OVERHEAD + HANDOVER_SECONDS
WHOLE = 100 / SPEED + EACH


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class CountedBacklog(BacklogStore):
    """The store, and how often it was read."""

    reads = 0

    async def read(self) -> WorkLeft:
        """Read, and count."""
        self.reads += 1
        return await super().read()


class Cluster:
    """What a forecast looks at."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.clock = Clock()
        self.encoders = LiveEncoders(1e9, lambda: None)
        self.progress = LiveProgress(clock=self.clock)
        self.backlog = CountedBacklog(rig.database)
        self.forecast = Forecast(self.backlog, self.encoders, self.progress, clock=self.clock)

    def slots(self, count: int) -> None:
        """Let an encoder be heard of that has so many."""
        cpu = pb.EncoderCapability(family=pb.ENCODER_FAMILY_CPU, available=True, slots=count)
        self.encoders.heard(
            pb.Encoder(id="encoder-1", probe_slots=1, mux_slots=1, capabilities=[cpu])
        )

    async def later(self, case: Case, seconds: float = STANDS_SECONDS) -> Estimate:
        """Return what is told of an export after so many seconds."""
        self.clock.now += seconds
        found = await self.forecast.of(case.id)
        assert found is not None
        return found


@pytest.fixture
async def cluster(rig: Rig) -> Cluster:
    await rig.sql(
        "INSERT INTO encode_speeds"
        " (family, resolution, quality, frames_per_second, overhead_seconds, samples)"
        " VALUES ('ENCODER_FAMILY_CPU', 'RESOLUTION_720P', 'QUALITY_MEDIUM', %s, %s, 1)",
        SPEED,
        OVERHEAD,
    )
    cluster = Cluster(rig)
    cluster.slots(1)
    return cluster


async def test_exports_are_told_what_is_ahead_of_them(rig: Rig, cluster: Cluster) -> None:
    cases = [await rig.create(user) for user in ("anna", "ben", "cleo")]
    found = [await cluster.forecast.of(case.id) for case in cases]
    assert found == [Estimate(WHOLE * (n + 1), n) for n in range(3)]


async def test_more_slots_are_seen_with_the_next_forecast(rig: Rig, cluster: Cluster) -> None:
    cases = [await rig.create(user) for user in ("anna", "ben")]
    assert (await cluster.later(cases[1])).seconds == 2 * WHOLE
    cluster.slots(2)
    assert (await cluster.later(cases[1])).seconds == WHOLE


async def test_time_passes_while_a_forecast_stands(rig: Rig, cluster: Cluster) -> None:
    case = await rig.create()
    await cluster.later(case)
    assert (await cluster.later(case, STANDS_SECONDS * 0.75)).seconds == pytest.approx(
        WHOLE - STANDS_SECONDS * 0.75
    )
    # Nothing has been done for it meanwhile.
    assert (await cluster.later(case, STANDS_SECONDS * 0.25)).seconds == WHOLE


async def test_time_that_has_run_out_is_not_negative(rig: Rig, cluster: Cluster) -> None:
    await rig.sql("UPDATE encode_speeds SET frames_per_second = 1e6")
    case = await rig.create()
    await cluster.later(case)
    assert (await cluster.later(case, OVERHEAD * 1.5)).seconds == 0


async def test_export_that_has_just_come_is_told_without_delay(rig: Rig, cluster: Cluster) -> None:
    old = await rig.create()
    await cluster.later(old)
    new = await rig.create("ben")
    assert await cluster.forecast.of(new.id) is None
    assert await cluster.later(new, UNKNOWN_SECONDS) == Estimate(2 * WHOLE, 1)


async def test_export_that_was_just_given_slots_is_told_without_delay(
    rig: Rig, cluster: Cluster
) -> None:
    cluster.slots(0)
    case = await rig.create()
    assert await cluster.forecast.of(case.id) == Estimate(None, 0)
    cluster.slots(1)
    assert await cluster.later(case, UNKNOWN_SECONDS) == Estimate(WHOLE, 0)


async def test_without_a_plan_only_the_position_is_told(rig: Rig, cluster: Cluster) -> None:
    cases = [await rig.create(user, probe=True) for user in ("anna", "ben")]
    found = [await cluster.forecast.of(case.id) for case in cases]
    assert found == [Estimate(None, 0), Estimate(None, 1)]


async def test_without_slots_only_the_position_is_told(rig: Rig, cluster: Cluster) -> None:
    cases = [await rig.create(user, lane=Lane.GPU) for user in ("anna", "ben")]
    found = [await cluster.forecast.of(case.id) for case in cases]
    assert found == [Estimate(None, 0), Estimate(None, 1)]


async def test_lanes_do_not_wait_for_each_other(rig: Rig, cluster: Cluster) -> None:
    await rig.create("anna", probe=True)
    await rig.create("ben", lane=Lane.GPU)
    case = await rig.create("cleo")
    assert await cluster.forecast.of(case.id) == Estimate(WHOLE, 0)


async def test_comparison_is_told_before_it_is_due_and_after(rig: Rig, cluster: Cluster) -> None:
    plan = pb.Plan(measure_quality=True)
    plan.MergeFrom(PLAN)
    case = await rig.create(lane=Lane.GPU, plan=plan, measured=True)
    gpu = pb.EncoderCapability(family=pb.ENCODER_FAMILY_NVENC, available=True, slots=1)
    cluster.encoders.heard(pb.Encoder(id="encoder-2", capabilities=[gpu]))
    # No GPU was measured yet: the comparison is all that takes about so long.
    whole = await cluster.later(case)
    assert whole.seconds is not None
    assert WHOLE < whole.seconds < 2 * WHOLE
    await case.complete()
    assert await cluster.later(case) == Estimate(WHOLE, 0)


async def test_tasks_that_were_sent_go_first(rig: Rig, cluster: Cluster) -> None:
    long = await long_export(rig, user="anna")
    sent = await rig.dispatch(Lane.CPU, window=2)
    case = await rig.create("ben")
    by_id = {task.id: task.frames for task in long.work}
    ahead = sum(by_id[task_id] for task_id in sent) / SPEED + 2 * EACH
    assert (await cluster.later(case)).seconds == pytest.approx(ahead + WHOLE)


async def test_export_that_is_unknown_is_not_told(cluster: Cluster) -> None:
    assert await cluster.forecast.of("exp_unknown") is None


async def test_run_of_its_own_pace_is_told_by_it(rig: Rig, cluster: Cluster) -> None:
    case = await rig.create()
    await case.begin()
    for frames in (0, 1, 51):
        cluster.progress.heard(
            task_pb2.TaskProgress(
                task=pb.RunningTask(
                    task_id=case.task.id,
                    export_id=case.id,
                    phase=pb.EXPORT_PHASE_ENCODING,
                    frames_done=frames,
                    frame_count=100,
                ),
                run_id="run_1",
            )
        )
        cluster.clock.now += 1 if frames == 0 else 50 if frames == 1 else 0
    # 49 frames at about one a second.
    assert (await cluster.later(case)).seconds == pytest.approx(49 + OVERHEAD, rel=0.3)


async def test_many_who_ask_at_a_time_cost_one_reading(rig: Rig, cluster: Cluster) -> None:
    cases = [await rig.create(user) for user in ("anna", "ben", "cleo")]
    found = await asyncio.gather(*(cluster.forecast.of(case.id) for case in cases * 5))
    assert None not in found
    assert cluster.backlog.reads == 1
    for _ in range(3):
        await cluster.later(cases[0], STANDS_SECONDS / 4)
    assert cluster.backlog.reads == 1
    await cluster.later(cases[0], STANDS_SECONDS / 4)
    assert cluster.backlog.reads == 2


async def test_forecast_that_costs_much_stands_longer(rig: Rig, cluster: Cluster) -> None:
    case = await rig.create()

    async def slowly() -> WorkLeft:
        cluster.clock.now += 0.5
        return await CountedBacklog.read(cluster.backlog)

    cluster.backlog.read = slowly  # type: ignore[method-assign]
    for seconds, reads in ((0, 1), (0.5 * STANDS_COSTS - 0.1, 1), (0.2, 2)):
        await cluster.later(case, seconds)
        assert cluster.backlog.reads == reads


async def test_last_forecast_stands_while_the_database_does_not_answer(
    empty_database: str, cluster: Cluster
) -> None:
    hasty = Rig(empty_database, timeout=0.3)
    cluster.backlog = CountedBacklog(hasty.database)
    forecast = Forecast(cluster.backlog, cluster.encoders, cluster.progress, clock=cluster.clock)
    case = await hasty.create()
    assert await forecast.of(case.id) == Estimate(WHOLE, 0)
    cluster.clock.now += STANDS_SECONDS + 1
    async with await psycopg.AsyncConnection.connect(empty_database) as other:
        await other.execute("LOCK TABLE exports IN ACCESS EXCLUSIVE MODE")
        expected = Estimate(WHOLE - STANDS_SECONDS - 1, 0)
        assert await forecast.of(case.id) == expected
    assert await forecast.of(case.id) == Estimate(WHOLE, 0)
    assert cluster.backlog.reads == 3
    await hasty.close()
