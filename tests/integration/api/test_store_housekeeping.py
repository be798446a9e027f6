"""What the reconciler does with the rows: expire, delete, find what was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from api_rig import INFO, PLAN, Case, Rig

from services.api.planning import order_of
from services.api.states import ExportState, TaskState
from services.api.store.housekeeping import Deletion, QueueDepth
from services.api.store.records import Planned
from services.api.store.tasks import Applied
from services.api.work import whole_task
from services.common.errors import DomainError, Reason
from services.common.families import choose_family
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage

MINUTE = timedelta(minutes=1)


# Retention


async def test_output_expires_when_its_time_has_come_and_not_before(rig: Rig) -> None:
    due, later = await rig.create(), await rig.create()
    await due.complete("run_1")
    await later.complete("run_2")
    await rig.sql("UPDATE exports SET expires_at = now() WHERE id = %s", due.id)
    assert await rig.housekeeping.expire() == [due.id]
    assert await rig.deletions() == [("anna", "run_1")]
    record = await due.now()
    assert (record.state, record.output is not None) == (ExportState.EXPIRED, True)
    assert await later.state() is ExportState.COMPLETED
    assert await rig.housekeeping.expire() == []


async def test_two_replicas_expire_each_output_once(rig: Rig, replica: Rig) -> None:
    for number in range(6):
        await (await rig.create()).complete(f"run_{number}")
    await rig.sql("UPDATE exports SET expires_at = now()")
    found = await asyncio.gather(*(each.housekeeping.expire() for each in (rig, replica)))
    assert len(set(found[0] + found[1])) == len(found[0] + found[1]) == 6
    assert await rig.value("SELECT count(*) FROM object_deletions") == 12


# Deleting objects


class Storage:
    """What was asked to be deleted."""

    def __init__(self, *, away: bool = False, reason: Reason = Reason.STORAGE_UNAVAILABLE) -> None:
        self.asked: list[Deletion] = []
        self.away = away
        self._reason = reason

    async def remove(self, deletions: Sequence[Deletion]) -> None:
        self.asked += deletions
        if self.away:
            raise DomainError(self._reason, "Away.")


async def doomed(rig: Rig, *runs: str, user: str = "anna") -> Case:
    case = await rig.create(user)
    for run in runs:
        await case.started(run)
    await rig.exports.delete(case.id, user)
    return case


async def test_objects_that_are_due_are_deleted_with_their_owner_named(rig: Rig) -> None:
    case = await doomed(rig, "run_1")
    store = Storage()
    assert await rig.housekeeping.delete_objects(store.remove) == 1
    [asked] = store.asked
    assert asked.user_id == "anna"
    assert asked.object == storage.ObjectRef(
        export_output=storage.ExportOutput(export_id=case.id, run_id="run_1")
    )
    assert await rig.housekeeping.delete_objects(store.remove) == 0
    # The second look is still to come.
    assert await rig.value("SELECT count(*) FROM object_deletions") == 1
    await rig.sql("UPDATE object_deletions SET not_before = now()")
    assert await rig.housekeeping.delete_objects(store.remove) == 1
    assert await rig.value("SELECT count(*) FROM object_deletions") == 0


async def test_deletion_that_fails_is_tried_again_after_a_growing_pause(rig: Rig) -> None:
    await doomed(rig, "run_1")
    await rig.sql("DELETE FROM object_deletions WHERE not_before > now()")
    store = Storage(away=True)
    pauses = []
    for _ in range(12):
        with pytest.raises(DomainError) as raised:
            await rig.housekeeping.delete_objects(store.remove)
        assert raised.value.reason is Reason.STORAGE_UNAVAILABLE
        seconds = "SELECT extract(epoch FROM not_before - now()) FROM object_deletions"
        pauses.append(float(await rig.value(seconds)))
        assert await rig.housekeeping.delete_objects(store.remove) == 0
        await rig.sql("UPDATE object_deletions SET not_before = now()")
    assert pauses == pytest.approx(
        [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600], abs=2
    )
    store.away = False
    assert await rig.housekeeping.delete_objects(store.remove) == 1


@pytest.mark.parametrize(
    ("reason", "asked"), [(Reason.STORAGE_UNAVAILABLE, 1), (Reason.INVALID_REQUEST, 3)]
)
async def test_users_are_not_asked_for_in_turn_while_storage_is_away(
    rig: Rig, reason: Reason, asked: int
) -> None:
    users = ("anna", "ben", "cleo")
    for user in users:
        await doomed(rig, f"run_{user}", user=user)
    store = Storage(away=True, reason=reason)
    with pytest.raises(DomainError) as raised:
        await rig.housekeeping.delete_objects(store.remove)
    assert raised.value.reason is reason
    assert [item.user_id for item in store.asked] == list(users[:asked])
    # Those that were not asked for are put off as well.
    assert await rig.value("SELECT count(*) FROM object_deletions WHERE not_before < now()") == 0


async def test_deletion_goes_on_after_any_number_of_failures(rig: Rig) -> None:
    await doomed(rig, "run_1")
    await rig.sql("UPDATE object_deletions SET not_before = now(), attempts = 2000000")
    with pytest.raises(DomainError):
        await rig.housekeeping.delete_objects(Storage(away=True).remove)
    await rig.sql("UPDATE object_deletions SET not_before = now()")
    assert await rig.housekeeping.delete_objects(Storage().remove) == 2


async def test_two_replicas_delete_each_object_once(rig: Rig, replica: Rig) -> None:
    await doomed(rig, *(f"run_{number}" for number in range(5)))
    store = Storage()

    async def slowly(deletions: Sequence[Deletion]) -> None:
        await asyncio.sleep(0.05)
        await store.remove(deletions)

    await asyncio.gather(*(each.housekeeping.delete_objects(slowly) for each in (rig, replica)))
    assert len(store.asked) == 5


# What was lost


async def silent(case: Case, ago: timedelta) -> None:
    await case.rig.sql(
        "UPDATE tasks SET seen_at = now() - %s::interval WHERE id = %s", ago, case.task.id
    )


async def test_tasks_in_flight_that_are_silent_are_found(rig: Rig) -> None:
    sent, begun, heard, waiting, gpu = [
        await rig.create(lane=lane) for lane in [Lane.CPU] * 4 + [Lane.GPU]
    ]
    await rig.dispatch(window=3)
    await rig.dispatch(Lane.GPU)
    await begun.started("run_1")
    for case in (sent, begun, waiting, gpu):
        await silent(case, 2 * MINUTE)
    await silent(heard, MINUTE / 2)
    found = await rig.housekeeping.silent_tasks(Lane.CPU, MINUTE)
    assert {task.id for task in found} == {sent.task.id, begun.task.id}


async def test_lost_task_is_due_again_with_a_new_attempt(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await silent(case, 2 * MINUTE)
    [task] = await rig.housekeeping.silent_tasks(Lane.CPU, MINUTE)
    assert await rig.housekeeping.requeue(task, MINUTE)
    row = await case.task_row()
    assert (row["state"], row["attempt"], row["failures"]) == ("PENDING", 1, 0)
    assert await rig.dispatch() == [case.task.id]
    assert (await case.task_row())["attempt"] == 2


async def test_task_that_was_heard_of_meanwhile_is_not_lost(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await silent(case, 2 * MINUTE)
    [task] = await rig.housekeeping.silent_tasks(Lane.CPU, MINUTE)
    await silent(case, MINUTE / 2)
    assert not await rig.housekeeping.requeue(task, MINUTE)
    assert (await case.task_row())["state"] == "RUNNING"


async def test_task_that_another_replica_has_sent_again_is_not_lost_twice(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await silent(case, 2 * MINUTE)
    [task] = await rig.housekeeping.silent_tasks(Lane.CPU, MINUTE)
    assert await rig.housekeeping.requeue(task, MINUTE)
    await rig.dispatch()
    await silent(case, 2 * MINUTE)
    assert not await rig.housekeeping.requeue(task, MINUTE)
    assert (await case.task_row())["state"] == "DISPATCHED"


# Moving off the GPU


def on_cpu(case: Case) -> Planned:
    """Return a plan for the CPU."""
    choice = choose_family(pb.ENCODER_PREFERENCE_GPU, gpu_live=False)
    return Planned(PLAN, (whole_task(order_of(case.record), INFO, PLAN, choice),), choice.warnings)


async def idle(rig: Rig) -> list[str]:
    return [record.id for record in await rig.housekeeping.idle_exports(Lane.GPU, MINUTE)]


@pytest.mark.parametrize("sent", [False, True])
async def test_export_that_nobody_has_begun_leaves_its_lane(rig: Rig, sent: bool) -> None:
    case = await rig.create(lane=Lane.GPU)
    if sent:
        await rig.dispatch(Lane.GPU)
    assert await idle(rig) == [case.id]
    planned = on_cpu(case)
    running = await rig.housekeeping.leave_lane(Lane.GPU, MINUTE, case.id, planned)
    # Who had received it in the lane it left is told to stop.
    assert running == ([case.task.id] if sent else [])
    [row] = await rig.sql("SELECT * FROM tasks")
    assert (row["id"], row["state"], row["lane"]) == (planned.work[0].id, "PENDING", "cpu")
    assert row["created_at"] == case.record.created_at, "it keeps its place in the queue"
    record = await case.now()
    assert [item.code for item in record.warnings] == ["GPU_FALLBACK"]
    assert record.replans == 1
    assert await idle(rig) == []
    assert await rig.dispatch(Lane.CPU) == [planned.work[0].id]
    assert await case.started("run_gpu") == Applied(stop_runs=("run_gpu",))


async def test_export_that_has_begun_meanwhile_stays(rig: Rig) -> None:
    case = await rig.create(lane=Lane.GPU)
    await rig.dispatch(Lane.GPU)
    assert await idle(rig) == [case.id]
    await case.started()
    left = await rig.housekeeping.leave_lane(Lane.GPU, MINUTE, case.id, on_cpu(case))
    assert left is None
    assert (await case.task_row())["lane"] == "gpu"
    assert (await case.now()).warnings == ()


async def test_export_that_runs_leaves_only_when_nothing_is_heard_of_it(rig: Rig) -> None:
    case = await rig.create(lane=Lane.GPU)
    await case.begin()
    assert await idle(rig) == []
    await rig.sql("UPDATE tasks SET seen_at = now() - interval '61 seconds'")
    assert await idle(rig) == [case.id]
    leave = rig.housekeeping.leave_lane
    await rig.sql("UPDATE tasks SET seen_at = now()")
    assert await leave(Lane.GPU, MINUTE, case.id, on_cpu(case)) is None
    await rig.sql("UPDATE tasks SET seen_at = now() - interval '61 seconds'")
    assert await leave(Lane.GPU, MINUTE, case.id, on_cpu(case)) == [case.task.id]
    assert await rig.deletions() == [("anna", "run_1")]


# Forgetting and measuring


async def test_old_submissions_and_probes_are_forgotten_and_newer_ones_kept(rig: Rig) -> None:
    await rig.create("anna", request_id="old")
    await rig.sql("UPDATE submissions SET created_at = now() - interval '24 hours 1 minute'")
    await rig.create("ben", request_id="new")
    await rig.tasks.keep_probe("old", INFO)
    await rig.sql("UPDATE probes SET created_at = now() - interval '91 days'")
    await rig.tasks.keep_probe("new", INFO)
    await rig.sql("UPDATE exports SET source_etag = 'other'")
    await rig.housekeeping.forget_old()
    assert await rig.value("SELECT user_id FROM submissions") == "ben"
    assert await rig.value("SELECT source_key FROM probes") == "new"
    assert await rig.value("SELECT count(*) FROM exports") == 2


async def test_what_a_source_is_stays_known_while_an_export_may_be_planned_again(rig: Rig) -> None:
    case = await rig.create()
    await rig.tasks.keep_probe("old", INFO)
    await rig.sql("UPDATE probes SET created_at = now() - interval '91 days'")
    await rig.housekeeping.forget_old()
    assert await rig.value("SELECT count(*) FROM probes") == 1
    await rig.exports.cancel(case.id, "anna")
    await rig.housekeeping.forget_old()
    assert await rig.value("SELECT count(*) FROM probes") == 0


async def test_queues_are_measured_by_lane_and_state(rig: Rig) -> None:
    for _ in range(3):
        await rig.create()
    running = await rig.create("ben")
    await rig.dispatch(window=2)
    await running.started()
    await rig.create(probe=True)
    done = await rig.create("cleo", lane=Lane.GPU)
    await done.complete("run_done")
    oldest = {
        (row["lane"], row["state"]): row["min"]
        for row in await rig.sql("SELECT lane, state, min(created_at) FROM tasks GROUP BY 1, 2")
    }
    assert sorted(await rig.housekeeping.queue_depths(), key=str) == sorted(
        (
            QueueDepth(lane, state, count, oldest[lane, state])
            for lane, state, count in [
                (Lane.CPU, TaskState.PENDING, 2),
                (Lane.CPU, TaskState.DISPATCHED, 1),
                (Lane.CPU, TaskState.RUNNING, 1),
                (Lane.PROBE, TaskState.PENDING, 1),
            ]
        ),
        key=str,
    )
    assert sorted(await rig.housekeeping.active_exports()) == [("PROCESSING", 1), ("QUEUED", 4)]
