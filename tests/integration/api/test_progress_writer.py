"""Progress on its way from NATS to the rows, and word back to runs that nobody wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
from api_parts import Parts, overheard, running, until
from api_rig import Case, Rig
from nats.aio.client import Client
from structlog.testing import capture_logs

from services.api import progress as module
from services.api.progress import LiveProgress, ProgressWriter
from services.api.signals import Signals
from services.common.nats import connect
from services.common.subjects import CANCEL
from services.local.infra import Infrastructure
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


@pytest.fixture
async def live(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LiveProgress]:
    """Live progress, and a writer that writes every moment."""
    monkeypatch.setattr(module, "WRITE_INTERVAL", 0.05)
    live = LiveProgress()
    writer = ProgressWriter(parts.rig.tasks, parts.signals, live)
    await live.listen(parts.nats)
    await writer.listen(parts.nats)
    async with running(writer.run):
        yield live


async def say(nats: Client, case: Case, frames: int, run: str = "run_1") -> None:
    """Publish progress as encoders do."""
    word = task_pb2.TaskProgress(
        task=pb.RunningTask(
            task_id=case.task.id,
            export_id=case.id,
            phase=pb.EXPORT_PHASE_ENCODING,
            frames_done=frames,
            frame_count=100,
        ),
        attempt=1,
        run_id=run,
        encoder_id="encoder-1",
    )
    await nats.publish(f"videoexport.progress.{case.id}", word.SerializeToString())
    await nats.flush()


async def test_progress_reaches_readers_at_once_and_the_row_soon(
    rig: Rig, nats: Client, live: LiveProgress
) -> None:
    case = await rig.create()
    await case.begin()
    async with overheard(nats, "videoexport.updates.*", task_pb2.ExportChanged) as changes:
        await say(nats, case, 40)
        await until(lambda: _has_progress(case, 39.6))
        await nats.flush()
    heard = live.of(case.id)
    assert heard is not None
    assert (heard.frames_done, heard.newest.encoder_id) == (40, "encoder-1")
    assert {change.export_id for change in changes} == {case.id}


async def _has_progress(case: Case, progress: float) -> bool:
    return (await case.now()).progress == progress


@pytest.mark.usefixtures("live")
async def test_writer_waits_for_a_schema_that_is_still_to_come(rig: Rig, nats: Client) -> None:
    case = await rig.create()
    await case.begin()
    with capture_logs() as logs:
        await rig.sql("ALTER TABLE tasks RENAME TO other")
        try:
            await say(nats, case, 20)
            await until(lambda: _logged(logs))
        finally:
            await rig.sql("ALTER TABLE other RENAME TO tasks")
        await say(nats, case, 40)
        await until(lambda: _has_progress(case, 39.6))
    assert {(entry["event"], entry["log_level"]) for entry in logs} == {
        ("progress not written", "error")
    }


async def _logged(logs: list[MutableMapping[str, Any]]) -> bool:
    return bool(logs)


@pytest.mark.usefixtures("live")
async def test_run_that_nobody_wants_is_told_to_stop_whenever_it_is_heard(
    rig: Rig, nats: Client
) -> None:
    case = await rig.create()
    await case.begin()
    await rig.exports.cancel(case.id, "anna")
    async with overheard(nats, CANCEL, task_pb2.CancelTasks) as orders:
        for count in (1, 2):
            await say(nats, case, 40)
            await until(lambda: _are(orders, count))  # noqa: B023
    assert [list(order.run_ids) for order in orders] == [["run_1"], ["run_1"]]
    assert not any(order.task_ids for order in orders)


async def _are(orders: list[task_pb2.CancelTasks], count: int) -> bool:
    return len(orders) >= count


async def test_each_word_is_written_by_one_replica(
    rig: Rig, nats: Client, infrastructure: Infrastructure, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = await rig.create()
    await case.begin()
    async with connect(infrastructure.nats.url, name="other", on_closed=lambda: None) as other:
        await until(lambda: _connected(other))
        writers = [
            ProgressWriter(rig.tasks, Signals(client), LiveProgress()) for client in (nats, other)
        ]
        for writer, client in zip(writers, (nats, other), strict=True):
            await writer.listen(client)
            await client.flush()
        for number in range(30):
            await say(nats, case, number, f"run_{number}")
        await until(lambda: _taken(writers, 30))
        waiting = [set(writer._waiting) for writer in writers]
    assert waiting[0] & waiting[1] == set()
    assert len(waiting[0] | waiting[1]) == 30


async def _connected(client: Client) -> bool:
    return client.is_connected


async def _taken(writers: list[ProgressWriter], count: int) -> bool:
    return sum(len(writer._waiting) for writer in writers) >= count


async def test_signals_are_not_kept_for_later_while_nats_is_away(
    nats: Client, infrastructure: Infrastructure
) -> None:
    signals = Signals(nats)
    await infrastructure.stop("nats")
    try:
        await until(lambda: _disconnected(nats))
        await signals.export_changed("exp_1")
        await signals.stop_tasks(["tsk_1"])
        assert nats.pending_data_size == 0
    finally:
        await infrastructure.start("nats")
    await until(lambda: _connected(nats))
    async with overheard(nats, CANCEL, task_pb2.CancelTasks) as orders:
        await signals.stop_tasks([])
        await signals.stop_runs([])
        await signals.stop_tasks(["tsk_1"])
        await nats.flush()
        await until(lambda: _are(orders, 1))
    assert [list(order.task_ids) for order in orders] == [["tsk_1"]]


async def _disconnected(client: Client) -> bool:
    return not client.is_connected
