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
        newest: the newest word of an encoder that works on it, on pictures if any does.
        frames_done: pictures made so far by the tasks that were heard of: of each the most
            that any run has reached, because a run that takes over begins anew.
        frames_per_second: of all its tasks that run at the moment.
        speed: seconds of output made per second, by all of them.
    """

    newest: task_pb2.TaskProgress
    frames_done: int
    frames_per_second: float
    speed: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How the present run of a task gets on; times in seconds by our own clock.

    Attributes:
        age: since its first word.
        frame_count: frames that it makes; 0 where it tells none.
        frames_done: of these.
        frames: made since its first word of any: what comes before that, the start of
            FFmpeg and the encoder's lookahead, says nothing of the rest.
        seconds: in which it made them.
    """

    age: float
    frame_count: int = 0
    frames_done: int = 0
    frames: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _TaskWord:
    """The newest word on one task, and when its run was first heard of, with frames or without."""

    heard_at: float
    progress: task_pb2.TaskProgress
    frames_done: int
    run_heard_at: float
    frames_heard_at: float
    frames_at_first: int


class LiveProgress:
    """The newest word on every running export, for those who read it on this replica."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._words: dict[str, dict[str, _TaskWord]] = {}
        self._families: dict[str, pb.EncoderFamily.ValueType] = {}
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
        words = self._words.setdefault(task.export_id, {})
        if task.frame_count:
            if self._families.get(task.export_id, task.family) != task.family:
                # The export is planned anew, and what the GPU has encoded is made again.
                words.clear()
            self._families[task.export_id] = task.family
        before = words.get(task.task_id)
        done = min(task.frames_done, task.frame_count)
        if before is not None:
            done = max(done, before.frames_done)
        now = self._clock()
        word = _TaskWord(now, progress, done, now, now, task.frames_done)
        if before is not None and before.progress.run_id == progress.run_id:
            word.run_heard_at = before.run_heard_at
            if before.frames_at_first:
                word.frames_heard_at = before.frames_heard_at
                word.frames_at_first = before.frames_at_first
        words[task.task_id] = word
        for listener in self._listeners:
            listener(task.export_id)

    def of(self, export_id: str) -> Live | None:
        """Return what is known of an export, unless it is old."""
        words = self._words.get(export_id, {}).values()
        deadline = self._clock() - FRESH_SECONDS
        fresh = [word for word in words if word.heard_at >= deadline]
        if not fresh:
            return None
        running = [word.progress.task for word in fresh if not word.progress.over]
        return Live(
            max(fresh, key=_telling).progress,
            sum(word.frames_done for word in words),
            sum(task.frames_per_second for task in running),
            sum(task.speed for task in running),
        )

    def pace(self, export_id: str, task_id: str) -> Pace | None:
        """Return how a task that runs gets on, unless what is known of it is old."""
        word = self._words.get(export_id, {}).get(task_id)
        now = self._clock()
        if word is None or word.progress.over or word.heard_at < now - FRESH_SECONDS:
            return None
        task = word.progress.task
        return Pace(
            age=now - word.run_heard_at,
            frame_count=task.frame_count,
            frames_done=task.frames_done,
            frames=task.frames_done - word.frames_at_first,
            seconds=word.heard_at - word.frames_heard_at,
        )

    def forget_old(self) -> None:
        """Drop exports of which nothing fresh is known, so that memory follows what runs."""
        for export_id in list(self._words):
            if self.of(export_id) is None:
                del self._words[export_id]
                self._families.pop(export_id, None)


def _telling(word: _TaskWord) -> tuple[bool, bool, float]:
    progress = word.progress
    return not progress.over, progress.task.frame_count > 0, word.heard_at


def phase_of(task: pb.RunningTask) -> pb.ExportPhase.ValueType:
    """Return what is done for an export while a task of it runs.

    Parts are verified and stored while others are still encoded. What a newer encoder does that
    has no name here is some kind of encoding, too.
    """
    part = task.kind in (pb.TASK_KIND_VIDEO, pb.TASK_KIND_AUDIO)
    if part or task.phase not in pb.ExportPhase.values():
        return pb.EXPORT_PHASE_ENCODING
    return task.phase


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
            phase=pb.ExportPhase.Name(phase_of(task)).removeprefix("EXPORT_PHASE_"),
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
