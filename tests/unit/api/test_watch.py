"""Watches: one reader, any number of watchers, nothing missed that matters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest
from api_records import EXPORT
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry

from services.api import watch
from services.api.metrics import ApiMetrics
from services.api.watch import Watches
from services.common.errors import DomainError, Reason
from videoexport.v1 import export_pb2 as pb

PROCESSING, COMPLETED = pb.EXPORT_STATE_PROCESSING, pb.EXPORT_STATE_COMPLETED


class Row:
    """An export that the test changes, and how often it was read."""

    def __init__(self) -> None:
        self.export = pb.Export(id=EXPORT, user_id="anna", state=PROCESSING)
        self.error: DomainError | None = None
        self.reads = 0
        self.owners = {"anna"}
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, export_id: str, user_id: str) -> pb.Export:
        self.reads += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if export_id != EXPORT or user_id not in self.owners:
            raise DomainError(Reason.EXPORT_NOT_FOUND, "There is no such export.")
        copy = pb.Export()
        copy.CopyFrom(self.export)
        return copy


class Watched:
    """Watches of the row, and their gauge."""

    def __init__(self, row: Row, *, per_user: int = 9) -> None:
        self.row = row
        self.registry = CollectorRegistry()
        self.watches = Watches(row.read, ApiMetrics(self.registry), limit=4, per_user=per_user)

    def watch(self, user_id: str = "anna") -> AsyncIterator[pb.Export]:
        return self.watches.watch(EXPORT, user_id)

    @property
    def open(self) -> float | None:
        return self.registry.get_sample_value("videoexport_watch_streams")

    def change(self, **changes: object) -> None:
        self.row.export.MergeFrom(pb.Export(**changes))  # type: ignore[arg-type]
        self.watches.mark(EXPORT)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MIN_INTERVAL", 0.01)
    monkeypatch.setattr(watch, "POLL_SECONDS", 60.0)


@pytest.fixture
def watched() -> Watched:
    return Watched(Row())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def read_all(stream: AsyncIterator[pb.Export], into: list[pb.Export]) -> None:
    async for export in stream:
        into.append(export)  # noqa: PERF401 — what came before an error is wanted too


async def test_watch_begins_with_the_snapshot(watched: Watched) -> None:
    watched.change(progress=40.0)
    stream = watched.watch()
    assert (await anext(stream)).progress == 40.0


async def test_watch_yields_every_change_to_a_reader_that_keeps_up(watched: Watched) -> None:
    stream = watched.watch()
    await anext(stream)
    for progress in (10.0, 20.0, 30.0):
        watched.change(progress=progress)
        assert (await anext(stream)).progress == progress


async def test_watch_ends_with_the_terminal_state(watched: Watched) -> None:
    seen: list[pb.Export] = []
    reader = asyncio.create_task(read_all(watched.watch(), seen))
    await until(lambda: len(seen) == 1)
    watched.change(state=COMPLETED)
    await asyncio.wait_for(reader, 5)
    assert [export.state for export in seen] == [PROCESSING, COMPLETED]


@pytest.mark.parametrize(
    "state",
    [
        pb.EXPORT_STATE_COMPLETED,
        pb.EXPORT_STATE_FAILED,
        pb.EXPORT_STATE_CANCELLED,
        pb.EXPORT_STATE_EXPIRED,
    ],
)
async def test_watch_of_an_ended_export_is_its_snapshot(
    watched: Watched, state: pb.ExportState.ValueType
) -> None:
    watched.change(state=state)
    seen: list[pb.Export] = []
    await asyncio.wait_for(read_all(watched.watch(), seen), 5)
    assert [export.state for export in seen] == [state]


async def test_two_watchers_see_the_same_from_one_reader(watched: Watched) -> None:
    first: list[pb.Export] = []
    second: list[pb.Export] = []
    readers = [asyncio.create_task(read_all(watched.watch(), seen)) for seen in (first, second)]
    await until(lambda: len(first) == len(second) == 1)
    for progress in (25.0, 50.0, 75.0):
        watched.change(progress=progress)
        await until(lambda: first[-1].progress == second[-1].progress == progress)  # noqa: B023
    watched.change(state=COMPLETED)
    await asyncio.wait_for(asyncio.gather(*readers), 5)
    assert first == second
    assert [export.progress for export in first] == [0.0, 25.0, 50.0, 75.0, 75.0]
    assert watched.row.reads == 5


async def test_slow_watcher_skips_to_the_newest_state(watched: Watched) -> None:
    fast: list[pb.Export] = []
    reader = asyncio.create_task(read_all(watched.watch(), fast))
    slow = watched.watch()
    assert (await anext(slow)).progress == 0.0
    for progress in (10.0, 20.0, 30.0, 40.0):
        watched.change(progress=progress)
        await until(lambda: bool(fast) and fast[-1].progress == progress)  # noqa: B023
    assert (await anext(slow)).progress == 40.0
    watched.change(state=COMPLETED)
    await asyncio.wait_for(reader, 5)
    assert (await anext(slow)).state == COMPLETED


async def test_late_watcher_gets_the_newest_state_at_once(watched: Watched) -> None:
    early = watched.watch()
    await anext(early)
    watched.change(progress=60.0)
    await anext(early)
    reads = watched.row.reads
    assert (await anext(watched.watch())).progress == 60.0
    assert watched.row.reads == reads


async def test_change_during_the_first_read_is_not_missed(watched: Watched) -> None:
    watched.row.gate.clear()
    stream = watched.watch()
    waiting = asyncio.ensure_future(anext(stream))
    await until(lambda: watched.row.reads == 1)
    watched.watches.mark(EXPORT)
    watched.row.gate.set()
    await waiting
    watched.row.export.progress = 5.0  # before the second read, which the mark has asked for
    assert (await asyncio.wait_for(anext(stream), 5)).progress == 5.0


async def test_row_that_does_not_change_is_not_read_again(watched: Watched) -> None:
    stream = watched.watch()
    await anext(stream)
    await asyncio.sleep(0.05)
    assert watched.open == 1
    assert watched.row.reads == 1


async def test_lost_signal_costs_one_poll(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.05)
    stream = watched.watch()
    await anext(stream)
    watched.row.export.progress = 33.0
    assert (await asyncio.wait_for(anext(stream), 5)).progress == 33.0


async def test_new_signature_of_the_download_url_is_no_change(watched: Watched) -> None:
    def signed(number: int) -> pb.Output:
        expires = Timestamp(seconds=number)
        return pb.Output(download_url=f"https://s3/{number}", download_url_expire_time=expires)

    watched.change(output=signed(1))
    stream = watched.watch()
    await anext(stream)
    watched.change(output=signed(2))
    await until(lambda: watched.row.reads == 2)
    watched.change(progress=1.0)
    assert (await anext(stream)).progress == 1.0
    assert watched.row.reads == 3


async def test_progress_of_a_watch_never_goes_back(watched: Watched) -> None:
    stream = watched.watch()
    await anext(stream)
    watched.change(progress=50.0)
    assert (await anext(stream)).progress == 50.0
    watched.row.export.progress = 45.0
    watched.change(phase=pb.EXPORT_PHASE_WAITING)
    export = await anext(stream)
    assert (export.phase, export.progress) == (pb.EXPORT_PHASE_WAITING, 50.0)


async def test_watch_of_an_export_that_is_not_there_raises_its_error(watched: Watched) -> None:
    with pytest.raises(DomainError) as raised:
        await anext(watched.watch("ben"))
    assert raised.value.reason is Reason.EXPORT_NOT_FOUND


async def test_watch_of_an_export_that_is_deleted_meanwhile_ends_with_not_found(
    watched: Watched,
) -> None:
    streams = [watched.watch(), watched.watch()]
    for stream in streams:
        await anext(stream)
    watched.row.error = DomainError(Reason.EXPORT_NOT_FOUND, "There is no such export.")
    watched.watches.mark(EXPORT)
    for stream in streams:
        with pytest.raises(DomainError) as raised:
            await asyncio.wait_for(anext(stream), 5)
        assert raised.value.reason is Reason.EXPORT_NOT_FOUND


async def test_store_that_is_away_ends_no_watch_that_has_begun(watched: Watched) -> None:
    stream = watched.watch()
    await anext(stream)
    watched.row.error = DomainError(Reason.STORE_UNAVAILABLE, "Away.")
    watched.change(progress=10.0)
    await until(lambda: watched.row.reads == 2)
    watched.row.error = None
    watched.watches.mark(EXPORT)
    assert (await asyncio.wait_for(anext(stream), 5)).progress == 10.0


async def test_store_that_is_away_at_the_first_read_is_told(watched: Watched) -> None:
    watched.row.error = DomainError(Reason.STORE_UNAVAILABLE, "Away.")
    with pytest.raises(DomainError) as raised:
        await anext(watched.watch())
    assert raised.value.reason is Reason.STORE_UNAVAILABLE


async def test_defect_of_a_read_ends_the_watch_without_its_text(watched: Watched) -> None:
    watched.row.error = RuntimeError("secret")  # type: ignore[assignment]
    with pytest.raises(DomainError) as raised:
        await anext(watched.watch())
    assert raised.value.reason is Reason.INTERNAL
    assert "secret" not in raised.value.message


async def test_nobody_joins_the_watch_of_another_user(watched: Watched) -> None:
    await anext(watched.watch())
    with pytest.raises(DomainError) as raised:
        await anext(watched.watch("ben"))
    assert raised.value.reason is Reason.EXPORT_NOT_FOUND


@contextmanager
def counted_tasks() -> Iterator[Callable[[], int]]:
    before = len(asyncio.all_tasks())
    yield lambda: len(asyncio.all_tasks()) - before


async def test_watchers_that_leave_take_their_reader_with_them(watched: Watched) -> None:
    with counted_tasks() as extra:
        streams = [watched.watch() for _ in range(3)]
        for stream in streams:
            await anext(stream)
        assert watched.open == 3
        assert extra() == 1
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]
        await until(lambda: extra() == 0)
        assert watched.open == 0
        reads = watched.row.reads
        watched.change(progress=1.0)
        await asyncio.sleep(0.03)
        assert watched.row.reads == reads


async def as_many_as_may(
    watched: Watched, count: int, *, limit_of: str
) -> list[AsyncIterator[pb.Export]]:
    """Return so many open watches, after which another one is refused."""
    streams = [watched.watch() for _ in range(count)]
    for stream in streams:
        await anext(stream)
    with pytest.raises(DomainError) as refused:
        await anext(watched.watch())
    assert refused.value.reason is Reason.TOO_MANY_WATCHES
    assert refused.value.quota is not None
    assert refused.value.quota.subject == limit_of
    assert refused.value.retry_after is not None
    return streams


async def test_no_more_watch_than_may_and_one_that_leaves_makes_room(watched: Watched) -> None:
    streams = await as_many_as_may(watched, 4, limit_of="replica")
    assert watched.open == 4
    await streams.pop().aclose()  # type: ignore[attr-defined]
    streams.append(watched.watch())
    await anext(streams[-1])
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]
    assert watched.open == 0


async def test_one_user_leaves_watches_to_others() -> None:
    watched = Watched(Row(), per_user=2)
    watched.row.owners.add("ben")
    streams = await as_many_as_may(watched, 2, limit_of="user:anna")
    streams.append(watched.watch("ben"))
    await anext(streams[-1])
    await streams.pop(0).aclose()  # type: ignore[attr-defined]
    streams.append(watched.watch())
    await anext(streams[-1])
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]
    assert watched.open == 0


async def test_watch_after_the_last_one_has_left_reads_anew(watched: Watched) -> None:
    stream = watched.watch()
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    watched.row.export.progress = 70.0
    assert (await anext(watched.watch())).progress == 70.0


async def drained(reader: asyncio.Task[None]) -> None:
    with pytest.raises(DomainError) as raised:
        await asyncio.wait_for(reader, 5)
    assert raised.value.reason is Reason.DRAINING


async def test_close_ends_watches_while_nothing_changes(watched: Watched) -> None:
    seen: list[pb.Export] = []
    reader = asyncio.create_task(read_all(watched.watch(), seen))
    await until(lambda: len(seen) == 1)
    await asyncio.sleep(0.03)  # the reader waits for a change now
    watched.watches.close()
    await drained(reader)


async def test_close_ends_watches_between_two_reads(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MIN_INTERVAL", 0.2)
    seen: list[pb.Export] = []
    reader = asyncio.create_task(read_all(watched.watch(), seen))
    await until(lambda: len(seen) == 1)
    watched.watches.close()
    await drained(reader)


async def test_close_ends_watches_during_a_read_that_finds_nothing_new(watched: Watched) -> None:
    seen: list[pb.Export] = []
    reader = asyncio.create_task(read_all(watched.watch(), seen))
    await until(lambda: len(seen) == 1)
    watched.row.gate.clear()
    watched.watches.mark(EXPORT)
    await until(lambda: watched.row.reads == 2)
    watched.watches.close()
    watched.row.gate.set()
    await drained(reader)


async def test_watch_after_close_is_refused(watched: Watched) -> None:
    watched.watches.close()
    with pytest.raises(DomainError) as raised:
        await anext(watched.watch())
    assert raised.value.reason is Reason.DRAINING
    assert watched.open == 0
