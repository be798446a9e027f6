"""One delivered task from its message to its acknowledgement."""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg

from services.common import ids
from services.common.cancellation import cancel_until_done
from services.common.errors import DomainError, Reason, as_sentence
from services.common.nats import TRANSIENT
from services.common.subjects import MAX_DELIVERIES, Lane
from services.encoder.board import RELEASED, Run, TaskBoard
from services.encoder.errors import MediaError, PartMissing
from services.encoder.events import EventPublisher
from services.encoder.metrics import EncoderMetrics
from services.encoder.tasks.works import Works, live_of
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

log = structlog.get_logger()

ACK_SECONDS = 5.0


class TaskRunner:
    """Runs tasks of the queue: start event, work, final event, acknowledgement.

    The order matters: a run's start is stored before it writes anything, and
    its end before the message is acknowledged. Whatever dies in between, the
    message comes again or the event says what happened.
    """

    def __init__(
        self,
        board: TaskBoard,
        events: EventPublisher,
        works: Works,
        metrics: EncoderMetrics,
        heartbeat_interval: float,
    ) -> None:
        self._board = board
        self._events = events
        self._works = works
        self._metrics = metrics
        self._heartbeat_interval = heartbeat_interval

    async def handle(self, message: Msg, lane: Lane) -> None:
        """Run the task of a message; returns when the message is settled."""
        try:
            task = task_pb2.Task.FromString(message.data)
        except DecodeError:
            log.error("task cannot be read; dropped", subject=message.subject)
            await self._ack(message)
            return
        run = Run(ids.run_id(), task.attempt, lane, live_of(task))
        with structlog.contextvars.bound_contextvars(
            export_id=task.export_id, task_id=task.task_id, attempt=task.attempt
        ):
            try:
                with self._board.slot(run):
                    await self._run(message, task, run)
            except DomainError as error:
                # Draining, or a direct Encode took the slot since the pull. A NAK
                # would count as a delivery, and so as a vanished encoder.
                log.info("task handed back", reason=error.reason)
                await self._events.publish(_event(task, run, released=task_pb2.TaskReleased()))
                await self._ack(message)

    async def _run(self, message: Msg, task: task_pb2.Task, run: Run) -> None:
        alive = asyncio.create_task(self._stay_alive(message))
        run.work = asyncio.create_task(self._work(message, task, run))
        try:
            await run.work
        except asyncio.CancelledError:
            if run.stop_reason is None:
                raise
            log.info("run stopped", run_id=run.run_id, reason=run.stop_reason)
            if run.stop_reason == RELEASED:
                await self._events.publish(_event(task, run, released=task_pb2.TaskReleased()))
        finally:
            await cancel_until_done([alive])
            await self._events.over(run)
        await self._ack(message)

    async def _work(self, message: Msg, task: task_pb2.Task, run: Run) -> None:
        deliveries = message.metadata.num_delivered
        kind = pb.TaskKind.Name(run.live.kind)
        started = time.monotonic()
        try:
            if deliveries > MAX_DELIVERIES:
                raise DomainError(
                    Reason.WORKER_LOST,
                    f"{deliveries - 1} encoders vanished while they worked on it.",
                )
            begun = task_pb2.TaskStarted(delivery_count=deliveries)
            await self._events.publish(_event(task, run, started=begun))
            result = await self._works.do(task, run)
        except (MediaError, DomainError) as error:
            log.warning("run failed", reason=error.reason, message=str(error))
            self._metrics.task_failures.labels(kind, error.reason).inc()
            failed = task_pb2.TaskFailed(code=error.reason, message=as_sentence(str(error)))
            if isinstance(error, PartMissing):
                failed.missing_keys.extend(error.keys)
            await self._events.publish(_event(task, run, failed=failed))
        except Exception as error:
            log.error("run failed", exc_info=error)
            self._metrics.task_failures.labels(kind, Reason.INTERNAL).inc()
            failed = task_pb2.TaskFailed(
                code=Reason.INTERNAL, message="The encoder met an internal error."
            )
            await self._events.publish(_event(task, run, failed=failed))
        else:
            seconds = time.monotonic() - started
            family = pb.EncoderFamily.Name(run.live.family)
            self._metrics.task_seconds.labels(kind, family).observe(seconds)
            result.run_time.FromNanoseconds(int(seconds * 1e9))
            run.settled = True
            await self._events.publish(_event(task, run, succeeded=result))

    async def _stay_alive(self, message: Msg) -> None:
        """Tell JetStream that the task is in work, well within its ack wait."""
        while True:
            await asyncio.sleep(self._heartbeat_interval)
            with contextlib.suppress(*TRANSIENT):
                await message.in_progress()

    async def _ack(self, message: Msg) -> None:
        # Where the word does not get through the message comes again; the API
        # then says that its task is decided.
        try:
            await message.ack_sync(timeout=ACK_SECONDS)
        except TRANSIENT as error:
            log.warning("task not acknowledged", problem=type(error).__name__)


def _event(
    task: task_pb2.Task,
    run: Run,
    *,
    started: task_pb2.TaskStarted | None = None,
    succeeded: task_pb2.TaskSucceeded | None = None,
    failed: task_pb2.TaskFailed | None = None,
    released: task_pb2.TaskReleased | None = None,
) -> task_pb2.TaskEvent:
    return task_pb2.TaskEvent(
        task_id=task.task_id,
        attempt=task.attempt,
        run_id=run.run_id,
        export_id=task.export_id,
        user_id=task.user_id,
        started=started,
        succeeded=succeeded,
        failed=failed,
        released=released,
    )
