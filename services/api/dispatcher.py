"""From rows to JetStream: a shallow window of tasks ahead of the live slots, fair between users."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from nats.aio.client import Client

from services.api.encoders import LiveEncoders
from services.api.held_up import HeldUp
from services.api.metrics import ApiMetrics
from services.api.signals import Signals
from services.api.store import TaskStore
from services.api.store.records import TaskRecord
from services.common.errors import DomainError
from services.common.nats import (
    TRANSIENT,
    publish_durably,
    publish_problem,
    require_connection,
    trouble,
)
from services.common.subjects import Lane, task_subject
from videoexport.v1 import task_pb2

log = structlog.get_logger()

INTERVAL = 1.0
# While NATS elects a leader it refuses at once, and takes the next message the moment it has one.
HELD_UP_INTERVAL = 0.25
# Between two rounds. One after a pause comes at once; where tasks end all the time, those
# that end within so many seconds are followed by the same round.
PACE_SECONDS = 0.03
# Tasks sent out ahead of the slots, in parts of these: what is ahead is in front of a new
# user's task, but many slots end so often that they would wait for the dispatcher. With few,
# a chunk of several seconds is followed by the next within a tenth of one.
SLOTS_PER_TASK_AHEAD = 4


def window_of(slots: int) -> int:
    """Return how many tasks of a lane may be in flight for so many live slots.

    One without any: whoever comes finds it before his first heartbeat is heard.
    """
    return max(1, slots + slots // SLOTS_PER_TASK_AHEAD)


class Dispatcher:
    """Publishes due tasks; any number of replicas may do so side by side."""

    def __init__(
        self,
        tasks: TaskStore,
        nats: Client,
        encoders: LiveEncoders,
        signals: Signals,
        metrics: ApiMetrics,
    ) -> None:
        self._tasks = tasks
        self._nats = nats
        self._js = nats.jetstream()
        self._encoders = encoders
        self._signals = signals
        self._metrics = metrics
        self._held_up = HeldUp("dispatch is held up", "dispatch goes on")

    async def run(self) -> None:
        """Dispatch for ever."""
        while True:
            interval = INTERVAL if self._held_up.problem is None else HELD_UP_INTERVAL
            await self._signals.dispatch.wait(interval)
            try:
                await self._dispatch()
            except DomainError as error:
                self._held_up.report(error.reason)
            except TRANSIENT as error:
                # Nothing is marked as sent: the rows wait, and are sent once there is room.
                self._held_up.report(trouble(error))
            except Exception as error:
                # A defect of ours, or a schema that is still to come: the service
                # goes on answering callers meanwhile.
                log.error("dispatch failed", exc_info=error)
            else:
                self._held_up.report(None)
            await asyncio.sleep(PACE_SECONDS)

    async def _dispatch(self) -> None:
        slots = {lane: self._encoders.slots(lane) for lane in Lane}
        for lane, count in slots.items():
            self._metrics.slots.labels(lane).set(count)
        require_connection(self._nats)
        windows = {lane: window_of(count) for lane, count in slots.items()}
        # Side by side, or an assembly would wait for many chunks to be sent out.
        lanes = await self._tasks.lanes_with_room(windows)
        sending = (self._dispatch_lane(lane, windows[lane]) for lane in lanes)
        results = await asyncio.gather(*sending, return_exceptions=True)
        for error in filter(None, results):
            raise error

    async def _dispatch_lane(self, lane: Lane, window: int) -> None:
        count = await self._tasks.dispatch(lane, window, self._publish)
        if count:
            self._metrics.dispatched.labels(lane).inc(count)

    async def _publish(self, due: Sequence[TaskRecord]) -> Sequence[str]:
        """Publish tasks side by side; return the ids of those that are stored for sure."""
        results = await asyncio.gather(
            *(self._publish_one(task) for task in due), return_exceptions=True
        )
        stored = [task.id for task, error in zip(due, results, strict=True) if error is None]
        failures = [error for error in results if error is not None]
        for error in failures:
            if isinstance(error, TRANSIENT):
                self._metrics.publishes.held_up.labels(publish_problem(error)).inc()
        if failures and not stored:
            raise failures[0]
        if failures:
            # The rows of the others are marked; these are sent in the next round.
            log.warning("some tasks wait", count=len(failures), problem=trouble(failures[0]))
        return stored

    async def _publish_one(self, record: TaskRecord) -> None:
        task = task_pb2.Task.FromString(record.message)
        task.attempt = record.attempt + 1
        await publish_durably(
            self._js,
            task_subject(record.lane, record.id),
            task,
            message_id=f"{task.task_id}.{task.attempt}",
        )
