"""Live progress: every replica hears all of it, and one of them writes it to the rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.api.signals import Signals
from services.api.store import TaskStore
from services.api.store.progress import Progress
from services.common.errors import DomainError
from services.common.subjects import API_GROUP, PROGRESS
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

log = structlog.get_logger()

# Progress older than this is of a run that has ended or vanished.
FRESH_SECONDS = 10.0
WRITE_INTERVAL = 2.0


@dataclass(frozen=True, slots=True)
class Live:
    """What is known of a running export beside its row.

    Attributes:
        newest: the newest word of the encoder that works on it.
        done: share of its frames, 0 to 1: the most that any run has reached,
            because a run that takes over begins anew.
    """

    newest: task_pb2.TaskProgress
    done: float


class LiveProgress:
    """The newest word on every running export, for those who read it on this replica."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._live: dict[str, tuple[float, Live]] = {}
        self._listeners: list[Callable[[str], None]] = []

    def on_progress(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called with the id of every export that moves."""
        self._listeners.append(listener)

    async def listen(self, nats: Client) -> None:
        """Follow all progress from now on."""
        await nats.subscribe(f"{PROGRESS}.*", cb=self._on_message)

    async def _on_message(self, message: Msg) -> None:
        self.heard(task_pb2.TaskProgress.FromString(message.data))

    def heard(self, progress: task_pb2.TaskProgress) -> None:
        """Take one message."""
        task = progress.task
        export_id = task.export_id
        done = min(1.0, task.frames_done / task.frame_count) if task.frame_count else 0.0
        before = self.of(export_id)
        if before is not None:
            done = max(done, before.done)
        self._live[export_id] = (self._clock(), Live(progress, done))
        for listener in self._listeners:
            listener(export_id)

    def of(self, export_id: str) -> Live | None:
        """Return what is known of an export, unless it is old."""
        entry = self._live.get(export_id)
        if entry is None or entry[0] < self._clock() - FRESH_SECONDS:
            return None
        return entry[1]

    def forget_old(self) -> None:
        """Drop what is no longer fresh, so that memory follows what runs."""
        deadline = self._clock() - FRESH_SECONDS
        for export_id, (heard_at, _) in list(self._live.items()):
            if heard_at < deadline:
                del self._live[export_id]


class ProgressWriter:
    """Writes progress to the rows every few seconds, and stops runs that nobody wants.

    Each message reaches one replica of the queue group, so rows are written
    once however many replicas there are.
    """

    def __init__(self, tasks: TaskStore, signals: Signals, live: LiveProgress) -> None:
        self._tasks = tasks
        self._signals = signals
        self._live = live
        self._waiting: dict[str, Progress] = {}

    async def listen(self, nats: Client) -> None:
        """Follow this replica's share of the progress from now on."""
        await nats.subscribe(f"{PROGRESS}.*", queue=API_GROUP, cb=self._on_message)

    async def _on_message(self, message: Msg) -> None:
        progress = task_pb2.TaskProgress.FromString(message.data)
        task = progress.task
        self._waiting[progress.run_id] = Progress(
            task_id=task.task_id,
            export_id=task.export_id,
            run_id=progress.run_id,
            attempt=progress.attempt,
            phase=pb.ExportPhase.Name(task.phase).removeprefix("EXPORT_PHASE_"),
            frames_done=task.frames_done,
        )

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await asyncio.sleep(WRITE_INTERVAL)
            self._live.forget_old()
            updates, self._waiting = list(self._waiting.values()), {}
            try:
                await self._write(updates)
            except DomainError as error:
                log.warning("progress not written", reason=error.reason)
            except Exception as error:
                # A defect of ours, or a schema that is still to come: the service
                # goes on answering callers meanwhile.
                log.error("progress not written", exc_info=error)

    async def _write(self, updates: Sequence[Progress]) -> None:
        moved, stale_runs = await self._tasks.progressed(updates)
        # A run that was cancelled, or overtaken, may not have heard of it.
        await self._signals.stop_runs(stale_runs)
        for export_id in moved:
            await self._signals.export_changed(export_id)
