"""From JetStream to rows: what encoders report, applied in effect once.

Every event is one transaction, and acknowledged after its commit. Delivered
twice, late or out of order it changes nothing: the rows decide.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import timedelta

import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.api.held_up import HeldUp
from services.api.metrics import ApiMetrics
from services.api.planning import ExportPlanner, order_of
from services.api.replanning import Replanner
from services.api.settings import ApiSettings
from services.api.signals import Signals
from services.api.store import TaskStore
from services.api.store.records import ExportRecord, Planned
from services.api.store.tasks import Applied
from services.common.cancellation import cancel_until_done
from services.common.errors import TABLE, DomainError, Reason
from services.common.nats import ANSWER_SECONDS, TRANSIENT
from services.common.subjects import EVENTS_CONSUMER, EVENTS_STREAM, Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

log = structlog.get_logger()

BATCH = 64
# A pull that a lost leader of the consumer had taken is over with it.
FETCH_SECONDS = 2.0
PAUSE_SECONDS = 1.0
# A pull can stall after a server restart without an error. So after so long without an event
# the consumer is asked for, which raises when it is gone, and bound anew.
CHECK_SECONDS = 10.0
ACK_SECONDS = 5.0
# How often an event is tried that meets a defect of ours, by each replica.
TRIES = 5


class EventConsumer:
    """Applies the events of tasks; all replicas share the work."""

    def __init__(
        self,
        settings: ApiSettings,
        tasks: TaskStore,
        nats: Client,
        planner: ExportPlanner,
        replanner: Replanner,
        signals: Signals,
        metrics: ApiMetrics,
    ) -> None:
        self._settings = settings
        self._tasks = tasks
        self._js = nats.jetstream(timeout=ANSWER_SECONDS)
        self._planner = planner
        self._replanner = replanner
        self._signals = signals
        self._metrics = metrics
        # Tries that met a defect, by the event's place in the stream. What NATS counts are
        # deliveries, of which an outage of Postgres takes one a second.
        self._defects: Counter[int] = Counter()
        self._held_up = HeldUp("events are held up", "events go on")
        # Most of an event's time is waiting for Postgres and NATS, and other exports' events
        # need not wait with it; but dispatch takes a connection for each lane.
        self._side_by_side = max(1, settings.loop_connections - len(Lane))

    async def run(self) -> None:
        """Consume for ever; after any trouble with NATS, bind anew."""
        while True:
            try:
                await self._consume()
            except TRANSIENT as error:
                log.debug("event consumer binds again", problem=type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _consume(self) -> None:
        """Take batches until none has come for a while."""
        subscription = await self._js.pull_subscribe_bind(
            durable=EVENTS_CONSUMER, stream=EVENTS_STREAM
        )
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK_SECONDS
        try:
            while True:
                try:
                    messages = await subscription.fetch(BATCH, timeout=FETCH_SECONDS)
                except TimeoutError:
                    messages = []
                if messages:
                    await self._handle_all(messages)
                    check_at = loop.time() + CHECK_SECONDS
                elif loop.time() >= check_at:
                    await subscription.consumer_info()
                    # What came after its pull was given up is not to be lost with the inbox.
                    if not subscription.pending_msgs:
                        return
        finally:
            # A closed connection has dropped it already.
            await asyncio.gather(subscription.unsubscribe(), return_exceptions=True)

    async def _handle_all(self, messages: Sequence[Msg]) -> None:
        """Handle a batch: the events of one export in order, several exports side by side.

        What is left when that is cut short is handed back.
        """
        queues = [deque(queue) for queue in _by_export(messages)]
        waiting = iter(queues)

        async def work() -> None:
            for queue in waiting:
                while queue:
                    await self._handle(*queue[0])
                    queue.popleft()

        workers = [
            asyncio.ensure_future(work()) for _ in range(min(self._side_by_side, len(queues)))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            await cancel_until_done(workers)
            # Or it would lie until the ack wait is over.
            left = [message.nak() for queue in queues for message, _ in queue]
            await asyncio.gather(*left, return_exceptions=True)

    async def _handle(self, message: Msg, event: task_pb2.TaskEvent | None) -> None:
        if event is None:
            log.error("event cannot be read; dropped", subject=message.subject)
            await message.ack()
            return
        with structlog.contextvars.bound_contextvars(
            export_id=event.export_id, task_id=event.task_id, attempt=event.attempt
        ):
            try:
                await self.apply(event)
            except DomainError as error:
                # The database is away: JetStream brings the event again.
                self._held_up.report(error.reason)
                await message.nak(delay=PAUSE_SECONDS)
            except Exception as error:
                # A defect of ours must not stop the events behind it.
                log.error("event not applied", exc_info=error)
                await self._put_off(message, event)
            else:
                self._held_up.report(None)
                self._defects.pop(message.metadata.sequence.stream, None)
                await message.ack_sync(timeout=ACK_SECONDS)

    async def _put_off(self, message: Msg, event: task_pb2.TaskEvent) -> None:
        """Let an event come again; the export fails when that did not help.

        Should not even that be possible, the reconciler will find the task lost.
        """
        place = message.metadata.sequence.stream
        self._defects[place] += 1
        tries = self._defects[place]
        if tries < TRIES:
            await message.nak(delay=self._settings.retry_delay * 2**tries)
            return
        error = _error(Reason.INTERNAL, "What an encoder said was not understood.")
        try:
            await self._after(event, await self._tasks.failed(event, lambda _: error))
        except DomainError as away:
            self._held_up.report(away.reason)
            await message.nak(delay=PAUSE_SECONDS)
            return
        except Exception as problem:
            log.error("event dropped", exc_info=problem)
        del self._defects[place]
        await message.ack()

    async def apply(self, event: task_pb2.TaskEvent) -> None:
        """Apply one event.

        Raises:
            DomainError: STORE_UNAVAILABLE; it must come again.
        """
        kind = event.WhichOneof("kind")
        if kind == "started":
            applied = await self._tasks.started(event)
        elif kind == "released":
            applied = await self._tasks.released(event)
        elif kind == "failed":
            applied = await self._failed(event)
        elif event.succeeded.HasField("info"):
            applied = await self._probe_succeeded(event)
        elif event.succeeded.HasField("output"):
            applied = await self._tasks.output_succeeded(
                event, retention=timedelta(days=self._settings.retention_days)
            )
        elif event.succeeded.HasField("quality"):
            applied = await self._tasks.measured(event)
        elif event.succeeded.HasField("part"):
            applied = await self._tasks.part_succeeded(event)
        else:
            log.error("event of an unknown kind; dropped")
            return
        # Once it is applied: while the database is away the same comes again and again.
        log.info("task event", kind=kind, run_id=event.run_id, encoder_id=event.encoder_id)
        await self._after(event, applied)

    async def _failed(self, event: task_pb2.TaskEvent) -> Applied:
        reason = _reason_of(event.failed.code)
        replanned = await self._replanner.after_failure(event, reason)
        if replanned is not None:
            # Unless the run's word came too late, as after a cancellation.
            if replanned.changed:
                self._metrics.replans.labels(reason).inc()
            return replanned
        tried_again = False

        def decide(failures: int) -> timedelta | pb.ExportError:
            nonlocal tried_again
            tried_again = TABLE[reason].retryable and failures + 1 < self._settings.task_attempts
            if tried_again:
                return timedelta(seconds=self._settings.retry_delay * 2**failures)
            return _error(reason, event.failed.message)

        applied = await self._tasks.failed(event, decide)
        if tried_again:
            log.info("task is tried again", reason=reason)
            self._metrics.retries.labels(reason).inc()
        return applied

    async def _probe_succeeded(self, event: task_pb2.TaskEvent) -> Applied:
        found = await self._tasks.find(event)
        if found is None:
            return Applied()
        return await self._tasks.probe_succeeded(
            event, await self.plan_next(found[0], event.succeeded.info)
        )

    async def plan_next(
        self, record: ExportRecord, info: pb.SourceInfo
    ) -> Planned | pb.ExportError:
        """Return the plan of a probed export with its tasks, or why there is none.

        Raises:
            DomainError: STORE_UNAVAILABLE.
        """
        try:
            return await self._planner.plan(order_of(record), info)
        except DomainError as error:
            if error.reason is Reason.STORE_UNAVAILABLE:
                raise
            return pb.ExportError(
                code=error.reason,
                message=error.message,
                retryable=error.retryable,
                violations=[
                    pb.FieldViolation(field=item.field, description=item.description)
                    for item in error.violations
                ],
            )

    async def _after(self, event: task_pb2.TaskEvent, applied: Applied) -> None:
        await self._signals.stop_runs(applied.stop_runs)
        await self._signals.stop_tasks(applied.stop_tasks)
        if applied.output is not None:
            self._metrics.completed(applied.output)
        if applied.changed:
            await self._signals.export_changed(event.export_id)
        # Both loops cost several transactions, and there are thousands of events.
        if event.WhichOneof("kind") != "started":
            # A slot is free, a next task may be due.
            self._signals.dispatch.set()
        if _may_end_export(event):
            self._signals.reconcile.set()


def _may_end_export(event: task_pb2.TaskEvent) -> bool:
    part = event.HasField("succeeded") and event.succeeded.HasField("part")
    return event.WhichOneof("kind") in ("succeeded", "failed") and not part


def _by_export(messages: Iterable[Msg]) -> list[list[tuple[Msg, task_pb2.TaskEvent | None]]]:
    """Return messages with their events, by export, in order; None for what cannot be read."""
    queues: dict[str, list[tuple[Msg, task_pb2.TaskEvent | None]]] = {}
    for message in messages:
        try:
            event = task_pb2.TaskEvent.FromString(message.data)
        except DecodeError:
            queues.setdefault("", []).append((message, None))
        else:
            queues.setdefault(event.export_id, []).append((message, event))
    return list(queues.values())


def _reason_of(code: str) -> Reason:
    # An encoder of a newer version may know reasons that we do not.
    return Reason(code) if code in Reason.__members__ else Reason.INTERNAL


def _error(reason: Reason, message: str) -> pb.ExportError:
    return pb.ExportError(code=reason, message=message, retryable=TABLE[reason].retryable)
