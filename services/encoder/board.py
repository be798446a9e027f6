"""What runs on this encoder: slots, live figures, and the way to stop a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from services.common.errors import DomainError, Reason
from services.common.planner import FRAMES_PER_SOUND
from services.common.subjects import Lane
from services.encoder.ffmpeg.process import Progress
from services.encoder.metrics import EncoderMetrics
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


@dataclass
class Run:
    """One execution of a task.

    Attributes:
        live: its figures, as they are published.
        stop_reason: why it was told to stop, if it was.
        settled: its result is stored and about to be told; from here on the
            API decides what becomes of it, and stopping would lose it.
    """

    run_id: str
    attempt: int
    lane: Lane
    live: pb.RunningTask
    work: asyncio.Task[None] | None = None
    stop_reason: str | None = None
    settled: bool = False

    def stop(self, reason: str) -> None:
        """Stop the work; its FFmpeg is killed on the way out."""
        if self.stop_reason is None and not self.settled and self.work is not None:
            self.stop_reason = reason
            self.work.cancel(reason)

    def enter(self, phase: pb.ExportPhase.ValueType) -> None:
        """Say what the run is doing."""
        self.live.phase = phase
        if phase != pb.EXPORT_PHASE_ENCODING:
            self.live.frames_per_second = 0
            self.live.speed = 0

    def encoded(self, progress: Progress, *, frames_before: int, rate: float) -> None:
        """Take a word from FFmpeg.

        Args:
            frames_before: frames of the output that were made by earlier runs of it.
            rate: frames per second of the output. FFmpeg's own word on speed counts
                timestamps, which before the first frame are anything.
        """
        self.live.frames_done = max(self.live.frames_done, frames_before + progress.frame)
        self.live.frames_per_second = progress.frames_per_second
        self.live.speed = progress.frames_per_second / rate

    def heard(self, progress: Progress, *, frames_before: int, rate: float) -> None:
        """Take a word from FFmpeg that makes sound alone, which counts in frames of pictures."""
        frames = frames_before + round((progress.out_time or 0.0) * rate)
        self.live.frames_done = max(self.live.frames_done, frames // FRAMES_PER_SOUND)
        self.live.speed = progress.speed


HAND_BACK_SECONDS = 10.0

CANCELLED = "cancelled"
RELEASED = "released"


@dataclass
class TaskBoard:
    """The slots of this encoder, and what runs in them.

    Attributes:
        problem: returns why nothing but probes can be begun at the moment, or None.
    """

    slots: dict[Lane, int]
    metrics: EncoderMetrics
    problem: Callable[[], str | None] = lambda: None
    draining: bool = False
    _runs: dict[str, Run] = field(default_factory=dict)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._idle.set()
        for lane, count in self.slots.items():
            self.metrics.slots.labels(lane).set(count)
            self.metrics.busy.labels(lane).set(0)

    def busy(self, lane: Lane) -> int:
        """Return how many slots of a lane are taken."""
        return sum(run.lane is lane for run in self._runs.values())

    def takes(self, lane: Lane) -> bool:
        """Return whether a run of a lane could begin now."""
        if self.draining or self.busy(lane) >= self.slots[lane]:
            return False
        return lane is Lane.PROBE or self.problem() is None

    def not_ready(self) -> str | None:
        """Return why callers had better go elsewhere, in words that stay while that lasts."""
        if self.draining:
            return "draining"
        # The problem's own words hold figures that move all the time.
        return "taking no work but probes" if self.problem() is not None else None

    def running(self) -> list[Run]:
        """Return what runs now."""
        return list(self._runs.values())

    @contextmanager
    def slot(self, run: Run) -> Iterator[None]:
        """Hold a slot for a run.

        Raises:
            DomainError: DRAINING, SLOTS_BUSY or SCRATCH_FULL.
        """
        if self.draining:
            raise DomainError(Reason.DRAINING, "The encoder is going away; try another one.")
        if self.busy(run.lane) >= self.slots[run.lane]:
            raise DomainError(
                Reason.SLOTS_BUSY, f"All {self.slots[run.lane]} {run.lane} slots are busy."
            )
        # A probe writes nothing.
        if run.lane is not Lane.PROBE and (problem := self.problem()) is not None:
            raise DomainError(Reason.SCRATCH_FULL, problem)
        self._runs[run.run_id] = run
        self._idle.clear()
        self.metrics.busy.labels(run.lane).inc()
        try:
            yield
        finally:
            del self._runs[run.run_id]
            self.metrics.busy.labels(run.lane).dec()
            if not self._runs:
                self._idle.set()

    def cancel(self, order: task_pb2.CancelTasks) -> None:
        """Stop the runs that an order names."""
        for run in self.running():
            if run.live.task_id in order.task_ids or run.run_id in order.run_ids:
                run.stop(CANCELLED)

    def start_drain(self) -> None:
        """Take no new work from now on."""
        self.draining = True
        self.metrics.draining.set(1)

    async def drained(self, grace: float | None) -> None:
        """Wait until nothing runs; after `grace` seconds hand the rest back."""
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            for run in self.running():
                run.stop(RELEASED)
            # What NATS cannot be told now, it notices by itself: the message of a
            # run that falls silent is delivered again.
            with suppress(TimeoutError):
                async with asyncio.timeout(HAND_BACK_SECONDS):
                    await self._idle.wait()
