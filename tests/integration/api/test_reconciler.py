"""What keeps rows and the world in step, round by round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping, Sequence
from typing import Any

from api_parts import AwayStorage, Parts, overheard, running, until
from api_rig import INFO, OUTPUT, SOURCE, Case, Rig
from nats.aio.client import Client
from structlog.testing import capture_logs

from services.api.reconciler import HELD_UP_SECONDS
from services.api.states import ExportState, TaskState
from services.api.store.records import source_key
from services.common.storage import StorageCalls
from services.common.subjects import Lane
from services.local.infra import Infrastructure
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

TASKS, EXPORTS = "VIDEOEXPORT_TASKS", "VIDEOEXPORT_EXPORTS"


class KeptStorage(StorageCalls):
    """A StorageService that notes what it is to delete."""

    def __init__(self) -> None:
        self.deleted: list[tuple[str, str]] = []

    async def delete(self, user_id: str, objects: Sequence[storage.ObjectRef]) -> None:
        self.deleted += [(user_id, item.export_output.run_id) for item in objects]


async def is_export(case: Case, state: ExportState) -> bool:
    return await case.state() is state


async def is_task(case: Case, state: TaskState) -> bool:
    return bool((await case.task_row())["state"] == state)


async def holds(parts: Parts, stream: str, count: int) -> bool:
    return await parts.messages(stream) == count


async def is_announced(rig: Rig) -> bool:
    return bool(await rig.value("SELECT count(*) FROM announcements") == 0)


# Announcing


async def test_ends_are_published_for_other_services(parts: Parts, rig: Rig) -> None:
    completed, failed = await rig.create(), await rig.create("ben")
    await completed.complete("run_1")
    await failed.fail("run_2")
    async with running(parts.reconciler.run):
        await until(lambda: holds(parts, EXPORTS, 2))
        await until(lambda: is_announced(rig))
    end = await last(parts, f"videoexport.exports.{completed.id}.completed")
    assert (end.export_id, end.user_id) == (completed.id, "anna")
    assert end.state == pb.EXPORT_STATE_COMPLETED
    ended_at = (await completed.now()).ended_at
    assert ended_at is not None
    assert end.end_time.ToDatetime(tzinfo=ended_at.tzinfo) == ended_at
    end = await last(parts, f"videoexport.exports.{failed.id}.failed")
    assert end.error.code == "ENCODER_FAILED"
    ended = {"quality": "medium", "resolution": "720p"}
    name = "videoexport_exports_total"
    assert await parts.sample(name, state="COMPLETED", **ended) == 1
    assert await parts.sample(name, state="FAILED", **ended) == 1


async def last(parts: Parts, subject: str) -> task_pb2.ExportEnded:
    message = await parts.js.get_last_msg(EXPORTS, subject)
    assert message.data is not None
    return task_pb2.ExportEnded.FromString(message.data)


async def test_end_that_is_announced_twice_is_published_once(parts: Parts, rig: Rig) -> None:
    await (await rig.create()).complete()
    await rig.sql("INSERT INTO announcements (message) SELECT message FROM announcements")
    assert await rig.value("SELECT count(*) FROM announcements") == 2
    async with running(parts.reconciler.run):
        await until(lambda: is_announced(rig))
    assert await parts.messages(EXPORTS) == 1


async def test_end_is_published_soon_after_it_came(parts: Parts, rig: Rig) -> None:
    slow = Parts(rig, parts.nats, reconcile_interval=60)
    async with running(slow.reconciler.run):
        await asyncio.sleep(0.3)
        await (await rig.create()).complete()
        slow.signals.reconcile.set()
        await until(lambda: holds(parts, EXPORTS, 1), 3)


async def test_owner_is_not_held_up_while_nats_is_away(
    parts: Parts, rig: Rig, infrastructure: Infrastructure
) -> None:
    case = await rig.create()
    await case.fail()
    await infrastructure.stop("nats")
    try:
        async with running(parts.reconciler.run):
            await asyncio.sleep(0.3)
            started = time.monotonic()
            await rig.exports.delete(case.id, "anna")
            assert time.monotonic() - started < 0.5
    finally:
        await infrastructure.start("nats")


# Retention and deletion


async def test_output_expires_and_its_object_is_deleted(
    rig: Rig, parts: Parts, nats: Client
) -> None:
    kept = KeptStorage()
    with_storage = Parts(rig, nats, kept)
    case = await rig.create()
    await case.complete("run_1")
    await rig.sql("UPDATE exports SET expires_at = now()")
    async with (
        overheard(nats, "videoexport.updates.*", task_pb2.ExportChanged) as changes,
        running(with_storage.reconciler.run, with_storage.reconciler.run_storage),
    ):
        await until(lambda: is_export(case, ExportState.EXPIRED))
        await until(lambda: _deleted(kept, 1))
        await until(lambda: is_announced(rig))
    assert kept.deleted == [("anna", "run_1")]
    assert [change.export_id for change in changes] == [case.id]
    end = await last(parts, f"videoexport.exports.{case.id}.expired")
    assert end.state == pb.EXPORT_STATE_EXPIRED


async def _deleted(kept: KeptStorage, count: int) -> bool:
    return len(kept.deleted) >= count


async def test_objects_of_several_users_are_deleted_each_in_its_own_call(
    rig: Rig, nats: Client
) -> None:
    kept = KeptStorage()
    parts = Parts(rig, nats, kept)
    for user in ("ben", "anna", "ben"):
        case = await rig.create(user)
        await case.complete(f"run_{case.id}")
        await rig.exports.delete(case.id, user)
    async with running(parts.reconciler.run_storage):
        await until(lambda: _deleted(kept, 3))
        await asyncio.sleep(0.2)
    assert sorted(user for user, _ in kept.deleted) == ["anna", "ben", "ben"]


async def test_storage_that_is_away_is_logged_once_and_asked_seldom(rig: Rig, nats: Client) -> None:
    away = AwayStorage()
    parts = Parts(rig, nats, away)
    case = await rig.create()
    await case.complete()
    await rig.exports.delete(case.id, "anna")
    with capture_logs() as logs:
        async with running(parts.reconciler.run_storage):
            await asyncio.sleep(0.7)
    assert away.asked == 1
    assert await rig.deletions() == [("anna", "run_1")]
    # Nor is it said to go on, when what was put off leaves nothing to try.
    told = [entry for entry in logs if entry["event"].startswith("duty")]
    assert [(entry["event"], entry["duty"], entry.get("problem")) for entry in told] == [
        ("duty is held up", "delete objects", "STORAGE_UNAVAILABLE")
    ]


class HangingStorage(StorageCalls):
    """A StorageService that does not answer, nor ever runs into the limit of a call."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def delete(self, user_id: str, objects: Sequence[storage.ObjectRef]) -> None:
        self.asked.set()
        await asyncio.sleep(60)


async def test_storage_that_hangs_holds_up_nothing_else(rig: Rig, nats: Client) -> None:
    hanging = HangingStorage()
    parts = Parts(rig, nats, hanging)
    case = await rig.create()
    await case.complete("run_1")
    await rig.exports.delete(case.id, "anna")
    async with running(parts.reconciler.run, parts.reconciler.run_storage):
        await hanging.asked.wait()
        expiring = await rig.create()
        await expiring.complete("run_2")
        await until(lambda: is_announced(rig), 3)
        await rig.sql("UPDATE exports SET expires_at = now()")
        await until(lambda: is_export(expiring, ExportState.EXPIRED), 3)


async def test_objects_are_deleted_soon_after_an_export_was(rig: Rig, nats: Client) -> None:
    kept = KeptStorage()
    parts = Parts(rig, nats, kept, reconcile_interval=60)
    async with running(parts.reconciler.run, parts.reconciler.run_storage):
        await asyncio.sleep(0.3)
        case = await rig.create()
        await case.complete()
        await rig.exports.delete(case.id, "anna")
        parts.signals.reconcile.set()
        await until(lambda: _deleted(kept, 1), 3)


async def test_deletion_is_put_off_for_longer_than_a_call_to_storage_takes(
    rig: Rig, nats: Client
) -> None:
    parts = Parts(rig, nats, storage_timeout=100)
    case = await rig.create()
    await case.complete()
    await rig.exports.delete(case.id, "anna")
    async with running(parts.reconciler.run_storage):
        await until(lambda: _put_off(rig))
    pause = "SELECT extract(epoch FROM min(not_before) - now()) FROM object_deletions"
    assert 140 < await rig.value(pause) <= 150


async def _put_off(rig: Rig) -> bool:
    return bool(await rig.value("SELECT bool_or(attempts > 0) FROM object_deletions"))


# What was lost


async def test_silent_task_whose_message_is_gone_is_sent_again(parts: Parts, rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await rig.sql("UPDATE tasks SET seen_at = now() - interval '1 minute'")
    async with running(parts.reconciler.run, parts.dispatcher.run):
        await until(lambda: is_task(case, TaskState.DISPATCHED))
    assert await parts.messages(TASKS) == 1
    assert (await case.task_row())["attempt"] == 2
    assert await parts.sample("videoexport_tasks_requeued_total", lane="cpu") == 1


async def test_silent_task_whose_message_is_there_is_left_to_jetstream(
    parts: Parts, rig: Rig
) -> None:
    case = await rig.create()
    async with running(parts.dispatcher.run):
        await until(lambda: is_task(case, TaskState.DISPATCHED))
    await rig.sql("UPDATE tasks SET seen_at = now() - interval '1 hour'")
    async with running(parts.reconciler.run):
        await asyncio.sleep(0.5)
    assert await is_task(case, TaskState.DISPATCHED)
    assert await parts.messages(TASKS) == 1


async def test_task_that_was_just_heard_of_is_not_lost(rig: Rig, nats: Client) -> None:
    parts = Parts(rig, nats, ack_wait=30)
    case = await rig.create()
    await case.begin()
    async with running(parts.reconciler.run):
        await asyncio.sleep(0.5)
    assert await is_task(case, TaskState.RUNNING)


async def test_streams_that_were_removed_are_made_again(parts: Parts, nats: Client) -> None:
    js = nats.jetstream()
    for stream in (TASKS, EXPORTS):
        await js.delete_stream(stream)
    async with running(parts.reconciler.run):
        await until(lambda: _has_topology(parts))
    for lane in Lane:
        consumer = await js.consumer_info(TASKS, lane)
        assert consumer.config.ack_wait == 1
        assert consumer.config.filter_subject == f"videoexport.tasks.{lane}.*"


async def _has_topology(parts: Parts) -> bool:
    infos = {info.config.name: info for info in await parts.js.streams_info()}
    return EXPORTS in infos and TASKS in infos and infos[TASKS].state.consumer_count == len(Lane)


# Moving off the GPU


async def test_exports_leave_the_gpu_when_none_is_left(parts: Parts, rig: Rig) -> None:
    await rig.tasks.keep_probe(source_key("anna", SOURCE), INFO)
    sent, waiting = [await rig.create(lane=Lane.GPU) for _ in range(2)]
    await rig.dispatch(Lane.GPU, window=1)
    async with running(parts.reconciler.run):
        await until(lambda: _in_lane(waiting, "cpu"))
        await until(lambda: _in_lane(sent, "cpu"))
    for case in (sent, waiting):
        [row] = await rig.sql("SELECT * FROM tasks WHERE export_id = %s", case.id)
        task = task_pb2.Task.FromString(row["message"])
        assert row["state"] == "PENDING"
        assert task.whole.family == pb.ENCODER_FAMILY_CPU
        assert "No GPU" in task.whole.family_reason
        assert (await case.now()).warnings == (), "no GPU was asked for by name"


async def test_owner_who_asked_for_a_gpu_is_told_that_none_was_left(parts: Parts, rig: Rig) -> None:
    await rig.tasks.keep_probe(source_key("anna", SOURCE), INFO)
    case = await rig.create(lane=Lane.GPU)
    await rig.sql("""UPDATE exports SET settings = '{"encoder": "ENCODER_PREFERENCE_GPU"}'""")
    async with running(parts.reconciler.run):
        await until(lambda: _in_lane(case, "cpu"))
    assert [item.code for item in (await case.now()).warnings] == ["GPU_FALLBACK"]


async def _in_lane(case: Case, lane: str) -> bool:
    query = "SELECT lane FROM tasks WHERE export_id = %s"
    return bool(await case.rig.value(query, case.id) == lane)


async def test_tasks_stay_while_a_gpu_is_live_or_only_just_silent(rig: Rig, nats: Client) -> None:
    parts = Parts(rig, nats, encoder_timeout=1.5)
    case = await rig.create(lane=Lane.GPU)
    async with running(parts.reconciler.run):
        for _ in range(8):
            parts.encoder(gpu=1)
            await asyncio.sleep(0.25)
        await asyncio.sleep(0.4)
        assert await _in_lane(case, "gpu")


async def test_tasks_stay_while_heartbeats_cannot_reach_us(
    parts: Parts, rig: Rig, infrastructure: Infrastructure
) -> None:
    case = await rig.create(lane=Lane.GPU)
    await infrastructure.stop("nats")
    try:
        async with running(parts.reconciler.run):
            await asyncio.sleep(1.4)
            assert await _in_lane(case, "gpu")
    finally:
        await infrastructure.start("nats")


# Comparisons that nobody makes


async def compared(rig: Rig) -> Case:
    """Return an export of a GPU whose file is there, and is to be compared on a CPU."""
    case = await rig.create(lane=Lane.GPU, measured=True)
    await case.complete("run_1")
    return case


async def test_file_that_nobody_compares_is_delivered_without(parts: Parts, rig: Rig) -> None:
    case, waits = await compared(rig), await rig.create("ben")
    parts.encoder(cpu=0, gpu=1)
    async with running(parts.reconciler.run):
        await until(lambda: is_export(case, ExportState.COMPLETED))
    record = await case.now()
    assert (record.output_run_id, record.error) == ("run_1", None)
    assert [item.code for item in record.warnings] == ["QUALITY_NOT_MEASURED"]
    assert "no encoder is live that does encodes on the CPU" in record.warnings[0].message
    assert await rig.deletions() == []
    assert await waits.state() is ExportState.QUEUED, "it has nothing to deliver"
    name = "videoexport_export_frames_total"
    assert await parts.sample(name, origin="encoded") == OUTPUT.frame_count


async def test_comparison_waits_while_somebody_may_make_it(rig: Rig, nats: Client) -> None:
    parts = Parts(rig, nats, encoder_timeout=1.5)
    case = await compared(rig)
    async with running(parts.reconciler.run):
        for _ in range(8):
            parts.encoder(cpu=1)
            await asyncio.sleep(0.25)
        assert await case.state() is ExportState.PROCESSING


# Duties on their own


async def test_duties_go_on_while_nats_is_away(
    parts: Parts, rig: Rig, infrastructure: Infrastructure
) -> None:
    case = await rig.create()
    await case.complete()
    await rig.sql("UPDATE exports SET expires_at = now()")
    with capture_logs() as logs:
        await infrastructure.stop("nats")
        try:
            await until(lambda: _connected(parts.nats, False))
            async with running(parts.reconciler.run):
                await until(lambda: is_export(case, ExportState.EXPIRED))
                await until(lambda: _logged(logs, "duty is held up", "announce"))
                await infrastructure.start("nats")
                await until(lambda: _logged(logs, "duty goes on", "announce"))
        finally:
            if "nats" not in infrastructure.pids:
                await infrastructure.start("nats")
    assert await is_announced(rig)
    # Once each, however many rounds it took.
    words = [entry["event"] for entry in logs if entry.get("duty") == "announce"]
    assert words == ["duty is held up", "duty goes on"]


async def _connected(nats: Client, wanted: bool) -> bool:
    return nats.is_connected is wanted


async def _logged(logs: list[MutableMapping[str, Any]], event: str, duty: str) -> bool:
    return any(entry["event"] == event and entry.get("duty") == duty for entry in logs)


async def test_queues_are_measured(parts: Parts, rig: Rig) -> None:
    await rig.create()
    async with running(parts.reconciler.run):
        await until(lambda: _measured(parts))


async def _measured(parts: Parts) -> bool:
    return await parts.sample("videoexport_queue_depth", lane="cpu", state="PENDING") == 1


async def test_what_was_held_up_goes_on_as_soon_as_it_can(
    rig: Rig, nats: Client, infrastructure: Infrastructure
) -> None:
    parts = Parts(rig, nats, reconcile_interval=60)
    with capture_logs() as logs:
        await infrastructure.stop("nats")
        try:
            await until(lambda: _connected(nats, False))
            async with running(parts.reconciler.run):
                await until(lambda: _logged(logs, "duty is held up", "topology"))
                await infrastructure.start("nats")
                await until(lambda: _logged(logs, "duty goes on", "topology"))
        finally:
            if "nats" not in infrastructure.pids:
                await infrastructure.start("nats")


async def test_replicas_of_other_settings_do_not_undo_each_other(rig: Rig, nats: Client) -> None:
    old, new = Parts(rig, nats, ack_wait=30), Parts(rig, nats, ack_wait=20)

    async def waits(wanted: float) -> bool:
        info = await old.js.consumer_info(TASKS, Lane.CPU)
        return info.config.ack_wait == wanted

    async with running(old.reconciler.run):
        await until(lambda: waits(30))
        async with running(new.reconciler.run):
            await until(lambda: waits(20))
            # Some rounds of both.
            for _ in range(20):
                await asyncio.sleep(0.05)
                assert await waits(20)


async def test_outage_of_nats_hurries_nothing_that_asks_much_of_postgres(
    rig: Rig, nats: Client, infrastructure: Infrastructure
) -> None:
    parts = Parts(rig, nats, reconcile_interval=60)
    await infrastructure.stop("nats")
    try:
        await until(lambda: _connected(nats, False))
        await _assert_no_second_round(parts, "topology")
    finally:
        await infrastructure.start("nats")


async def test_outage_of_storage_hurries_nothing(rig: Rig, nats: Client) -> None:
    parts = Parts(rig, nats, AwayStorage(), reconcile_interval=60)
    case = await rig.create()
    await case.complete()
    await rig.exports.delete(case.id, "anna")
    await _assert_no_second_round(parts, "delete objects")


async def _assert_no_second_round(parts: Parts, held_up: str) -> None:
    """Run the loops for longer than between two tries of what is held up."""
    case = await parts.rig.create()
    await case.complete(f"run_{case.id}")
    with capture_logs() as logs:
        async with running(parts.reconciler.run, parts.reconciler.run_storage):
            await until(lambda: _logged(logs, "duty is held up", held_up))
            await asyncio.sleep(HELD_UP_SECONDS)
            await parts.rig.sql("UPDATE exports SET expires_at = now()")
            # An end of an export, after which it would go on at the other pace.
            parts.signals.reconcile.set()
            await asyncio.sleep(2 * HELD_UP_SECONDS + 0.3)
            assert await case.state() is ExportState.COMPLETED
