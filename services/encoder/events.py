"""What this encoder tells others: durable events, progress, heartbeats."""

from __future__ import annotations

import asyncio
import contextlib

import nats.errors
import structlog
from nats.aio.client import Client

from services.common.cancellation import honour_cancellation
from services.common.nats import (
    TRANSIENT,
    PublishMetrics,
    publish_durably,
    publish_problem,
    trouble,
)
from services.common.subjects import ENCODERS, PROGRESS, events_subject
from services.encoder.board import Run, TaskBoard
from services.encoder.description import EncoderDescription
from videoexport.v1 import task_pb2

log = structlog.get_logger()

PROGRESS_INTERVAL = 0.5
HEARTBEAT_INTERVAL = 2.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 2.0


class EventPublisher:
    """Publishes events of tasks until JetStream has stored them."""

    def __init__(self, nats: Client, encoder_id: str, metrics: PublishMetrics) -> None:
        self._nats = nats
        self._metrics = metrics
        self._js = nats.jetstream()
        self._encoder_id = encoder_id

    async def publish(self, event: task_pb2.TaskEvent) -> None:
        """Publish an event, however long NATS is away or its stream full.

        The result of an hour's work must not be lost to an outage; a run that
        waits here keeps its slot, so no further work is begun meanwhile.
        """
        event.encoder_id = self._encoder_id
        event.event_time.GetCurrentTime()
        pause, said = FIRST_PAUSE, ""
        while True:
            try:
                await publish_durably(
                    self._js,
                    events_subject(event.task_id),
                    event,
                    message_id=f"{event.run_id}.{event.WhichOneof('kind')}",
                )
            except TRANSIENT as error:
                honour_cancellation()
                self._metrics.held_up.labels(publish_problem(error)).inc()
                if trouble(error) != said:
                    said = trouble(error)
                    log.warning("event waits for nats", problem=said)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 2)
            else:
                return

    async def over(self, run: Run) -> None:
        """Say that a run has no progress any more; lost, it is forgotten after some seconds."""
        if self._nats.is_connected:
            with contextlib.suppress(nats.errors.Error):
                await publish_progress(self._nats, self._encoder_id, run, over=True)


async def publish_progress(nats: Client, encoder_id: str, run: Run, *, over: bool = False) -> None:
    """Publish how far a run is."""
    message = task_pb2.TaskProgress(
        task=run.live, attempt=run.attempt, run_id=run.run_id, encoder_id=encoder_id, over=over
    )
    await nats.publish(f"{PROGRESS}.{run.live.export_id}", message.SerializeToString())


class Reporter:
    """Publishes progress twice a second and a heartbeat every two; losing one costs nothing."""

    def __init__(
        self, nats: Client, board: TaskBoard, description: EncoderDescription, encoder_id: str
    ) -> None:
        self._nats = nats
        self._board = board
        self._description = description
        self._encoder_id = encoder_id

    async def run(self) -> None:
        """Report for ever."""
        ticks = 0
        while True:
            if self._nats.is_connected:
                with contextlib.suppress(nats.errors.Error):
                    await self._progress()
                    if ticks % round(HEARTBEAT_INTERVAL / PROGRESS_INTERVAL) == 0:
                        await self.heartbeat()
            ticks += 1
            await asyncio.sleep(PROGRESS_INTERVAL)

    async def heartbeat(self) -> None:
        """Publish what this encoder is and does."""
        message = task_pb2.EncoderHeartbeat(encoder=self._description.now())
        await self._nats.publish(f"{ENCODERS}.{self._encoder_id}", message.SerializeToString())

    async def _progress(self) -> None:
        for run in self._board.running():
            # A direct Encode belongs to no export; its caller has a stream of its own.
            if run.live.export_id:
                await publish_progress(self._nats, self._encoder_id, run)
