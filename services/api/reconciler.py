"""What keeps rows and the world in step: a round every few seconds, on every replica.

Objects are deleted beside the rounds: storage that does not answer is waited
for, and nothing else is to wait with it.

Each duty takes its rows with SKIP LOCKED and may be done twice, so replicas
need no leader among them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from services.api.encoders import LiveEncoders
from services.api.held_up import HeldUp
from services.api.metrics import ApiMetrics
from services.api.replanning import Replanner
from services.api.settings import ApiSettings
from services.api.signals import Signals, Wake
from services.api.states import ExportState
from services.api.store import Housekeeping, ReuseStore
from services.api.store.housekeeping import Deletion
from services.api.store.queue_wait import Overdue
from services.api.store.reuse import PartName
from services.common.errors import TABLE, DomainError, Reason
from services.common.nats import (
    ANSWER_SECONDS,
    TRANSIENT,
    ensure_topology,
    publish_durably,
    require_connection,
    trouble,
)
from services.common.storage import StorageCalls
from services.common.subjects import TASKS_STREAM, Lane, exports_subject, task_subject
from services.common.times import in_words
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

log = structlog.get_logger()

# Between two tries of these while they are held up: without the streams, which are made once
# NATS is there, nothing can be sent out, and other services wait for what is announced.
HELD_UP_SECONDS = 0.5
URGENT = ("topology", "announce")
# First pause of a deletion that failed, in limits of a call to the StorageService.
DELETION_PATIENCE = 1.5

WORK_OF_LANE = {
    Lane.PROBE: "probes",
    Lane.CPU: "encodes on the CPU",
    Lane.GPU: "encodes on the GPU",
    Lane.MUX: "sounds and assemblies",
}

Duties = list[tuple[str, Callable[[], Awaitable[object]]]]


class Reconciler:
    """Announces, expires, deletes, and finds what was lost."""

    def __init__(
        self,
        settings: ApiSettings,
        housekeeping: Housekeeping,
        reuse: ReuseStore,
        replanner: Replanner,
        nats: Client,
        storage_calls: StorageCalls,
        encoders: LiveEncoders,
        signals: Signals,
        metrics: ApiMetrics,
    ) -> None:
        self._settings = settings
        self._housekeeping = housekeeping
        self._reuse = reuse
        self._replanner = replanner
        self._nats = nats
        self._js = nats.jetstream(timeout=ANSWER_SECONDS)
        self._storage = storage_calls
        self._encoders = encoders
        self._signals = signals
        self._metrics = metrics
        # By duty, once it was tried.
        self._held_up: dict[str, HeldUp] = {}
        self._topology_is_set = False
        self._garbage = Wake()
        self._seen_at = dict.fromkeys((Lane.GPU, Lane.CPU), time.monotonic())

    async def run(self) -> None:
        """Go round for ever; one duty that fails does not stop the others."""
        duties: Duties = [
            ("announce", self._announce),
            ("topology", self._ensure_topology),
            ("expire", self._expire),
            ("find lost tasks", self._find_lost),
            ("move off the GPU", self._move_off_gpu),
            ("give up comparing", self._give_up_comparing),
            ("give up waiting", self._give_up_waiting),
            ("forget", self._housekeeping.forget_old),
            ("forget parts", self._reuse.forget_old),
            ("measure queues", self._measure),
        ]
        last_round = -math.inf
        while True:
            due = time.monotonic() >= last_round + self._settings.reconcile_interval
            if due:
                last_round = time.monotonic()
            hurried = self._hurried
            for name, duty in duties:
                # An end of an export wakes us for the announcement alone.
                if due or name == "announce" or name in hurried:
                    await self._attempt(name, duty)
            if due or not hurried:
                self._garbage.set()
            await self._signals.reconcile.wait(self._pause)

    @property
    def _hurried(self) -> list[str]:
        """The duties that are held up, and that are wanted as soon as they can be.

        The others are not: on a database that is slow they would make it slower.
        """
        return [name for name in URGENT if name in self._held_up and self._held_up[name].problem]

    @property
    def _pause(self) -> float:
        usual = self._settings.reconcile_interval
        return min(HELD_UP_SECONDS, usual) if self._hurried else usual

    async def run_storage(self) -> None:
        """Delete objects and keep others alive for ever, after each round."""
        while True:
            await self._garbage.wait(self._settings.reconcile_interval)
            await self._attempt("delete objects", self._delete_objects)
            await self._attempt("renew parts", self._renew_parts)

    async def _attempt(self, name: str, duty: Callable[[], Awaitable[object]]) -> None:
        new = HeldUp("duty is held up", "duty goes on", duty=name)
        held_up = self._held_up.setdefault(name, new)
        try:
            outcome = await duty()
        except DomainError as error:
            held_up.report(error.reason)
        except TRANSIENT as error:
            held_up.report(trouble(error))
        except Exception as error:
            log.error("duty failed", duty=name, exc_info=error)
        else:
            # False: there was nothing to do, which says nothing of what kept it from being done.
            if outcome is not False:
                held_up.report(None)

    async def _ensure_topology(self) -> None:
        """Set up the streams when this replica is new, and again when NATS has lost its disk."""
        require_connection(self._nats)
        await ensure_topology(
            self._js,
            replicas=self._settings.nats_replicas,
            ack_wait=self._settings.ack_wait,
            update=not self._topology_is_set,
        )
        self._topology_is_set = True

    async def _announce(self) -> None:
        require_connection(self._nats)
        while await self._housekeeping.announce(self._publish_end):
            pass

    async def _publish_end(self, message: task_pb2.ExportEnded) -> None:
        state = ExportState.of(message.state)
        ended = message.end_time
        await publish_durably(
            self._js,
            exports_subject(message.export_id, state),
            message,
            # A retried export may fail again: each end is a message of its own.
            message_id=f"{message.export_id}.{state}.{ended.seconds}.{ended.nanos}",
        )
        self._metrics.ended(message)

    async def _expire(self) -> None:
        for export_id in await self._housekeeping.expire():
            log.info("export expired", export_id=export_id)
            await self._signals.export_changed(export_id)

    async def _delete_objects(self) -> bool:
        """Delete what is due; return whether anything was: what has failed is not, for a while."""
        deleted = False
        backoff = timedelta(seconds=DELETION_PATIENCE * self._settings.storage_timeout)
        while count := await self._housekeeping.delete_objects(self._delete, backoff=backoff):
            self._metrics.deletions.inc(count)
            deleted = True
        return deleted

    async def _delete(self, deletions: Sequence[Deletion]) -> None:
        await self._storage.delete(deletions[0].user_id, [item.object for item in deletions])

    async def _renew_parts(self) -> bool:
        """Write parts that were used onto themselves: storage counts their age from then.

        Returns:
            whether there were any.
        """

        async def renew(part: PartName) -> None:
            reference = storage.ObjectRef(cache_key=part.key.hex())
            await self._storage.copy(part.user_id, reference, reference)

        renewed = False
        while await self._reuse.renew_parts(renew):
            renewed = True
        return renewed

    async def _find_lost(self) -> None:
        """Send tasks again that neither an encoder nor JetStream has.

        While JetStream has the message, redelivery is its business. A task
        is lost when its message is gone and nobody has spoken of it for as
        long as a silent encoder is waited for.
        """
        require_connection(self._nats)
        silence = timedelta(seconds=self._settings.ack_wait)
        for lane in Lane:
            for task in await self._housekeeping.silent_tasks(lane, silence):
                if await self._has_message(lane, task.id):
                    continue
                if await self._housekeeping.requeue(task, silence):
                    log.warning("lost task is sent again", task_id=task.id, lane=lane)
                    self._metrics.requeued.labels(lane).inc()
                    self._signals.dispatch.set()

    async def _has_message(self, lane: Lane, task_id: str) -> bool:
        try:
            await self._js.get_last_msg(TASKS_STREAM, task_subject(lane, task_id))
        except NotFoundError:
            return False
        return True

    def _is_deserted(self, lane: Lane) -> bool:
        """Return whether no encoder of a lane is left.

        None is left when none was heard of for as long as an encoder may be
        silent, although heartbeats could reach us all that time.
        """
        now = time.monotonic()
        if self._encoders.slots(lane) or not self._signals.connected:
            self._seen_at[lane] = now
        return now - self._seen_at[lane] >= self._settings.encoder_timeout

    async def _move_off_gpu(self) -> None:
        """Plan exports for the CPU that wait for a GPU when no GPU encoder is left.

        What was running goes, too, once nothing was heard of it for as long as JetStream waits.
        """
        if not self._is_deserted(Lane.GPU):
            return
        silence = timedelta(seconds=self._settings.ack_wait)
        for record in await self._housekeeping.idle_exports(Lane.GPU, silence):
            running = await self._replanner.off_gpu(record, silence)
            if running is None:
                continue
            log.warning("export moved off the GPU", export_id=record.id)
            await self._signals.stop_tasks(running)
            await self._signals.export_changed(record.id)
            self._signals.dispatch.set()

    async def _give_up_comparing(self) -> None:
        """Complete exports whose finished file nobody is there to compare with its source.

        While somebody is, they wait as others do; an encoder that is started anew is waited for
        as long as JetStream waits.
        """
        if self._is_deserted(Lane.CPU):
            wait = timedelta(seconds=self._settings.ack_wait)
            await self._give_up(wait, await self._housekeeping.overdue(wait, finished=True))

    async def _give_up_waiting(self) -> None:
        """End exports that have waited for an encoder for longer than they may."""
        if not self._settings.queue_wait_seconds:
            return
        # What is in work is silent for up to that long when its encoder vanishes.
        seconds = max(self._settings.queue_wait_seconds, self._settings.ack_wait)
        wait = timedelta(seconds=seconds)
        await self._give_up(wait, await self._housekeeping.overdue(wait))

    async def _give_up(self, wait: timedelta, waiting: Sequence[Overdue]) -> None:
        for overdue in waiting:
            error = pb.ExportError(
                code=Reason.QUEUE_TIMEOUT,
                message=f"Nothing was done for {in_words(wait)}: {self._why_it_waits(overdue)}",
                retryable=TABLE[Reason.QUEUE_TIMEOUT].retryable,
            )
            given_up = await self._housekeeping.give_up(overdue.export_id, wait, error)
            if given_up is None:
                continue
            log.warning(
                "export waited too long",
                export_id=overdue.export_id,
                lane=overdue.lane,
                message=error.message,
            )
            if given_up.output is not None:
                self._metrics.completed(given_up.output)
            await self._signals.stop_tasks(list(given_up.sent))
            await self._signals.export_changed(overdue.export_id)

    def _why_it_waits(self, overdue: Overdue) -> str:
        if not self._signals.connected:
            return "encoders cannot be told of it at the moment."
        work = WORK_OF_LANE[overdue.lane]
        slots = self._encoders.slots(overdue.lane)
        if slots:
            # Whether they had other work, or were not told of this, nobody has noted.
            return f"none of the {slots} slots for {work} worked on it."
        problem = self._encoders.problem(overdue.lane)
        if problem is None:
            return f"no encoder is live that does {work}."
        return f"no encoder takes {work} now. {problem}"

    async def _measure(self) -> None:
        self._metrics.queues(
            await self._housekeeping.queue_depths(), await self._housekeeping.active_exports()
        )
