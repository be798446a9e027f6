"""From JetStream to rows: applied, acknowledged, brought again, and followed by word of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from api_parts import Parts, overheard, running, until
from api_rig import INFO, OUTPUT, Case, Rig
from google.protobuf.duration_pb2 import Duration
from nats.aio.client import Client
from sqlalchemy import text
from structlog.testing import capture_logs

from services.api import events
from services.api.states import ExportState, TaskState
from services.common.errors import Reason
from services.common.nats import connect
from services.common.subjects import CANCEL, Lane
from services.local.infra import Infrastructure
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

EVENTS = "VIDEOEXPORT_EVENTS"


def started(case: Case, run: str = "run_1", *, attempt: int = 1) -> task_pb2.TaskEvent:
    return case.event(run, attempt=attempt, started=task_pb2.TaskStarted(delivery_count=1))


def succeeded(case: Case, run: str = "run_1") -> task_pb2.TaskEvent:
    return case.event(run, succeeded=task_pb2.TaskSucceeded(output=OUTPUT))


def failed(
    case: Case, code: str, run: str = "run_1", *, attempt: int = 1, message: str = "Broken pipe."
) -> task_pb2.TaskEvent:
    return case.event(run, attempt=attempt, failed=task_pb2.TaskFailed(code=code, message=message))


def probed(case: Case) -> task_pb2.TaskEvent:
    return case.event("run_1", succeeded=task_pb2.TaskSucceeded(info=INFO))


async def is_task(case: Case, state: TaskState) -> bool:
    return bool((await case.task_row())["state"] == state)


async def is_export(case: Case, state: ExportState) -> bool:
    return await case.state() is state


async def holds(parts: Parts, events: int) -> bool:
    return await parts.messages(EVENTS) == events


async def settled(parts: Parts) -> bool:
    """Whether every event is applied and acknowledged."""
    return await holds(parts, 0)


@pytest.fixture
async def sent(rig: Rig) -> Case:
    """An export whose task has been sent out."""
    case = await rig.create()
    await rig.dispatch()
    return case


@pytest.fixture
async def consuming(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The consumer at work; a pull that NATS has forgotten costs it half a second."""
    monkeypatch.setattr(events, "FETCH_SECONDS", 0.5)
    async with running(parts.consumer.run):
        yield


@pytest.mark.usefixtures("consuming")
async def test_events_are_applied_and_acknowledged(parts: Parts, sent: Case) -> None:
    await parts.publish(started(sent))
    await until(lambda: is_task(sent, TaskState.RUNNING))
    await parts.publish(succeeded(sent))
    await until(lambda: is_export(sent, ExportState.COMPLETED))
    await until(lambda: settled(parts))
    assert (await sent.now()).output_run_id == "run_1"


async def test_pull_that_stalls_without_an_error_is_bound_anew(
    parts: Parts, sent: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "FETCH_SECONDS", 0.3)
    monkeypatch.setattr(events, "CHECK_SECONDS", 1.0)
    async with running(parts.consumer.run):
        await parts.publish(started(sent))
        await until(lambda: is_task(sent, TaskState.RUNNING))
        # The server forgets where pulls are answered to. What takes its messages one by one,
        # rather than by a callback, is a pull.
        [pull] = [number for number, one in parts.nats._subs.items() if one._cb is None]
        await parts.nats._send_unsubscribe(pull)
        await parts.nats.flush()
        await parts.publish(succeeded(sent))
        await until(lambda: is_export(sent, ExportState.COMPLETED))


@pytest.mark.usefixtures("consuming")
async def test_events_of_one_task_are_applied_in_their_order(parts: Parts, rig: Rig) -> None:
    cases = [await rig.create() for _ in range(10)]
    await rig.dispatch()
    for case in cases:
        await parts.publish(started(case, f"run_{case.id}"))
        await parts.publish(failed(case, "ENCODER_FAILED", f"run_{case.id}"))
        await parts.publish(started(case, f"next_{case.id}"))
    await until(lambda: settled(parts))
    assert [await case.state() for case in cases] == [ExportState.PROCESSING] * 10
    assert [(await case.task_row())["state"] for case in cases] == ["RUNNING"] * 10
    assert await rig.value("SELECT count(*) FROM runs WHERE outcome = 'FAILED'") == 10


@pytest.mark.usefixtures("consuming")
async def test_event_that_is_stored_twice_counts_once(parts: Parts, sent: Case) -> None:
    await parts.publish(started(sent))
    for number in range(3):
        event = failed(sent, "ENCODER_FAILED")
        await parts.publish(event, message_id=f"again-{number}")
    await until(lambda: settled(parts))
    assert (await sent.task_row())["failures"] == 1


async def test_event_published_again_is_dropped_by_jetstream(parts: Parts, sent: Case) -> None:
    for _ in range(3):
        await parts.publish(started(sent))
    assert await parts.messages(EVENTS) == 1


@pytest.mark.usefixtures("consuming")
async def test_change_is_told_to_watchers_and_wakes_our_loops(
    parts: Parts, sent: Case, nats: Client
) -> None:
    async with overheard(nats, "videoexport.updates.*", task_pb2.ExportChanged) as changes:
        await parts.publish(succeeded(sent))
        await asyncio.wait_for(parts.signals.dispatch.wait(60), 5)
        await asyncio.wait_for(parts.signals.reconcile.wait(60), 5)
        await until(lambda: _is_not_empty(changes))
    assert [change.export_id for change in changes] == [sent.id]


@pytest.mark.usefixtures("consuming")
async def test_start_of_a_run_wakes_no_loop(parts: Parts, sent: Case) -> None:
    await parts.publish(started(sent))
    await until(lambda: settled(parts))
    for wake in (parts.signals.dispatch, parts.signals.reconcile):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wake.wait(60), 0.05)


async def test_events_of_other_exports_do_not_wait_for_a_locked_one(parts: Parts, rig: Rig) -> None:
    cases = [await rig.create() for _ in range(3)]
    await rig.dispatch()
    for case in cases:
        await parts.publish(started(case, f"run_{case.id}"))
    async with rig.database.transaction() as connection:
        lock = text("SELECT id FROM exports WHERE id = :id FOR UPDATE")
        await connection.execute(lock, {"id": cases[0].id})
        async with running(parts.consumer.run):
            for case in cases[1:]:
                await until(lambda: is_task(case, TaskState.RUNNING), 3)  # noqa: B023
            assert await is_task(cases[0], TaskState.DISPATCHED)
            await connection.rollback()
            await until(lambda: is_task(cases[0], TaskState.RUNNING))


async def _is_not_empty(messages: list[task_pb2.ExportChanged]) -> bool:
    return bool(messages)


@pytest.mark.usefixtures("consuming")
async def test_runs_that_are_overtaken_are_told_to_stop(
    parts: Parts, sent: Case, nats: Client
) -> None:
    async with overheard(nats, CANCEL, task_pb2.CancelTasks) as orders:
        await parts.publish(started(sent, "run_1"))
        await parts.publish(started(sent, "run_2"))
        await parts.publish(succeeded(sent, "run_2"))
        await parts.publish(started(sent, "run_3"))
        await until(lambda: settled(parts))
        await nats.flush()
    assert [list(order.run_ids) for order in orders] == [["run_1"], ["run_3"]]
    assert not any(order.task_ids for order in orders)


# What comes after a failure


@pytest.mark.usefixtures("consuming")
async def test_retryable_failure_is_tried_again_with_growing_pauses_and_then_given_up(
    parts: Parts, rig: Rig, sent: Case
) -> None:
    pauses = []
    for attempt in (1, 2, 3):
        await parts.publish(failed(sent, "ENCODER_FAILED", f"run_{attempt}", attempt=attempt))
        await until(lambda: is_task(sent, TaskState.PENDING))
        await until(lambda: settled(parts))
        # The pause began when the run had ended.
        pause = "SELECT not_before - runs.ended_at FROM tasks, runs WHERE runs.attempt = %s"
        pauses.append(await rig.value(pause, attempt))
        await rig.sql("UPDATE tasks SET not_before = now()")
        await rig.dispatch()
    assert pauses == [timedelta(seconds=pause) for pause in (0.1, 0.2, 0.4)]
    assert await sent.state() is ExportState.QUEUED
    await parts.publish(failed(sent, "ENCODER_FAILED", "run_4", attempt=4))
    await until(lambda: is_export(sent, ExportState.FAILED))
    assert (await sent.now()).error == pb.ExportError(
        code="ENCODER_FAILED", message="Broken pipe.", retryable=True
    )
    reason = "ENCODER_FAILED"
    assert await parts.sample("videoexport_task_retries_total", reason=reason) == 3


@pytest.mark.parametrize("reason", ["INVALID_SOURCE", "SOURCE_CHANGED", "WORKER_LOST"])
@pytest.mark.usefixtures("consuming")
async def test_failure_that_will_not_pass_is_final_at_once(
    parts: Parts, sent: Case, reason: str
) -> None:
    await parts.publish(failed(sent, reason, message="No video in it."))
    await until(lambda: is_export(sent, ExportState.FAILED))
    assert (await sent.now()).error == pb.ExportError(
        code=reason, message="No video in it.", retryable=False
    )


@pytest.mark.usefixtures("consuming")
async def test_failure_with_a_reason_of_a_newer_encoder_is_an_internal_one(
    parts: Parts, sent: Case
) -> None:
    await parts.publish(failed(sent, "MELTED"))
    await until(lambda: settled(parts))
    assert (await sent.task_row())["failures"] == 1
    assert await parts.sample("videoexport_task_retries_total", reason=Reason.INTERNAL) == 1


# What comes after a probe


async def probing(rig: Rig, *segments: pb.Segment) -> Case:
    case = await rig.create(probe=True, segments=segments)
    await rig.dispatch(Lane.PROBE)
    return case


@pytest.mark.usefixtures("consuming")
async def test_probe_leads_to_a_task_with_the_whole_plan(parts: Parts, rig: Rig) -> None:
    parts.encoder(gpu=1)
    second = pb.Segment(start_time=Duration(seconds=1), end_time=Duration(seconds=2))
    case = await probing(rig, second)
    await parts.publish(probed(case))
    await until(lambda: settled(parts))
    record = await case.now()
    assert record.plan is not None
    assert record.plan.frame_count == 25
    message = await rig.value("SELECT message FROM tasks WHERE kind = 'WHOLE' AND lane = 'gpu'")
    task = task_pb2.Task.FromString(message)
    assert (task.export_id, task.user_id) == (case.id, "anna")
    assert (task.source.etag, task.source.size_bytes) == ("etag", 1000)
    assert (task.whole.info, task.whole.plan) == (INFO, record.plan)
    assert task.whole.family == pb.ENCODER_FAMILY_NVENC


@pytest.mark.usefixtures("consuming")
async def test_segments_that_do_not_fit_the_probed_source_fail_the_export(
    parts: Parts, rig: Rig
) -> None:
    beyond = pb.Segment(start_time=Duration(seconds=1), end_time=Duration(seconds=99))
    fits = pb.Segment(start_time=Duration(seconds=1), end_time=Duration(seconds=2))
    case = await probing(rig, beyond, fits, beyond)
    await parts.publish(probed(case))
    await until(lambda: is_export(case, ExportState.FAILED))
    error = (await case.now()).error
    assert error is not None
    assert (error.code, error.retryable) == ("INVALID_SEGMENTS", False)
    assert [item.field for item in error.violations] == [
        "segments[0].end_time",
        "segments[2].end_time",
    ]


# What cannot be applied


@pytest.mark.usefixtures("consuming")
async def test_event_that_cannot_be_read_is_dropped(parts: Parts, sent: Case) -> None:
    with capture_logs() as logs:
        await parts.js.publish("videoexport.events.tsk_x", b"\xff\xff not an event")
        await parts.publish(started(sent))
        await until(lambda: is_task(sent, TaskState.RUNNING))
        await until(lambda: settled(parts))
    assert "event cannot be read; dropped" in [entry["event"] for entry in logs]


@pytest.mark.parametrize(
    "succeeded",
    [None, task_pb2.TaskSucceeded()],
    ids=["of-a-newer-encoder", "success-of-nothing"],
)
@pytest.mark.usefixtures("consuming")
async def test_event_of_an_unknown_kind_is_dropped_and_ends_nothing(
    parts: Parts, sent: Case, succeeded: task_pb2.TaskSucceeded | None
) -> None:
    await parts.publish(sent.event("run_1", succeeded=succeeded), message_id="x")
    await until(lambda: settled(parts))
    assert await sent.state() is ExportState.QUEUED


@pytest.mark.usefixtures("consuming")
async def test_event_that_meets_a_defect_does_not_stop_those_behind_it(
    parts: Parts, sent: Case
) -> None:
    with capture_logs() as logs:
        # Postgres takes no zero byte, and a run's id is never cleaned of one.
        await parts.publish(started(sent, "run_\0"), message_id="x")
        await parts.publish(started(sent, "run_2"))
        await until(lambda: is_task(sent, TaskState.RUNNING))
        await until(lambda: holds(parts, 1))
        await until(lambda: settled(parts))
    assert [entry["event"] for entry in logs].count("event not applied") == events.TRIES
    assert "event dropped" in [entry["event"] for entry in logs]


@pytest.mark.usefixtures("consuming")
async def test_export_fails_when_a_defect_keeps_its_event_from_being_applied(
    parts: Parts, rig: Rig
) -> None:
    case = await rig.create(probe=True)
    await rig.dispatch(Lane.PROBE)
    # Nothing of a source can be planned that has no frame rate.
    info = pb.SourceInfo(video=pb.VideoStream(frame_count=10))
    await parts.publish(case.event("run_1", succeeded=task_pb2.TaskSucceeded(info=info)))
    await until(lambda: is_export(case, ExportState.FAILED))
    error = (await case.now()).error
    assert error is not None
    assert (error.code, error.retryable) == ("INTERNAL", True)
    await until(lambda: settled(parts))


# Outages


@pytest.mark.usefixtures("consuming")
async def test_event_comes_again_after_postgres_was_away(
    parts: Parts, sent: Case, infrastructure: Infrastructure
) -> None:
    with capture_logs() as logs:
        await infrastructure.stop("postgres")
        try:
            await parts.publish(started(sent))
            await parts.publish(succeeded(sent))
            # Each is brought more than once.
            await asyncio.sleep(2 * events.PAUSE_SECONDS + 0.3)
            assert await parts.messages(EVENTS) == 2
        finally:
            await infrastructure.start("postgres")
        await until(lambda: is_export(sent, ExportState.COMPLETED))
        await until(lambda: settled(parts))
    words = [entry["event"] for entry in logs if "event" in entry["event"]]
    assert words == ["events are held up", "task event", "events go on", "task event"]


@pytest.mark.usefixtures("consuming")
async def test_outage_of_postgres_takes_no_tries_of_an_event(
    parts: Parts,
    rig: Rig,
    sent: Case,
    infrastructure: Infrastructure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "PAUSE_SECONDS", 0.1)
    # A defect that waits behind the outage, and is mended after the first try.
    await rig.sql("ALTER TABLE runs RENAME TO mislaid")
    try:
        await infrastructure.stop("postgres")
        try:
            await parts.publish(succeeded(sent))
            # Many more deliveries than there are tries.
            await asyncio.sleep(events.TRIES * 0.5)
        finally:
            await infrastructure.start("postgres")
        with capture_logs() as logs:

            async def is_tried() -> bool:
                return any("exc_info" in entry for entry in logs)

            await until(is_tried)
    finally:
        await rig.sql("ALTER TABLE mislaid RENAME TO runs")
    await until(lambda: is_export(sent, ExportState.COMPLETED))
    await until(lambda: settled(parts))


@pytest.mark.usefixtures("consuming")
async def test_consumer_goes_on_after_a_restart_of_nats(
    parts: Parts, sent: Case, infrastructure: Infrastructure
) -> None:
    await parts.publish(started(sent))
    await until(lambda: is_task(sent, TaskState.RUNNING))
    await infrastructure.stop("nats")
    await infrastructure.start("nats")
    await until(lambda: _connected(parts.nats))
    await parts.publish(succeeded(sent))
    await until(lambda: is_export(sent, ExportState.COMPLETED))


async def _connected(nats: Client) -> bool:
    return nats.is_connected


@pytest.mark.usefixtures("consuming")
async def test_consumer_goes_on_once_its_stream_is_there_again(
    parts: Parts, sent: Case, infrastructure: Infrastructure
) -> None:
    # NATS loses its disk: streams, consumers and the task's message are gone.
    async with running(parts.reconciler.run, parts.dispatcher.run):
        await infrastructure.stop("nats")
        shutil.rmtree(infrastructure.directory / "nats" / "jetstream")
        await infrastructure.start("nats")
        await until(lambda: _connected(parts.nats))
        await until(lambda: _has_attempt(sent, 2))
        assert await parts.messages("VIDEOEXPORT_TASKS") == 1
        await parts.publish(started(sent, attempt=2))
        await until(lambda: is_task(sent, TaskState.RUNNING))


async def _has_attempt(case: Case, attempt: int) -> bool:
    return bool((await case.task_row())["attempt"] == attempt)


class Door:
    """A way to NATS that lets everybody wait and then hangs up, until it is opened."""

    def __init__(self, port: int) -> None:
        self.open = False
        self.hung_up = 0
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._enter, "127.0.0.1", 0)
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if not self.open:
            await asyncio.sleep(0.3)
            self.hung_up += 1
            writer.close()
            return
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(to_writer)
        await asyncio.gather(_pass_on(reader, to_writer), _pass_on(to_reader, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


async def test_consumer_survives_first_attempts_to_connect_that_fail_half_way(
    parts: Parts, rig: Rig, sent: Case, infrastructure: Infrastructure
) -> None:
    door = Door(infrastructure.nats.port)
    async with door as url, connect(url, name="late", on_closed=lambda: None) as client:
        late = Parts(rig, client)
        async with running(late.consumer.run):
            async with asyncio.timeout(5):
                while door.hung_up < 2:
                    await asyncio.sleep(0.02)
            door.open = True
            await parts.publish(started(sent))
            await until(lambda: is_task(sent, TaskState.RUNNING))
