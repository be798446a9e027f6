"""WatchExport: one reader an export and replica, however many watch it.

A watcher is a note of the last version it has seen, not a queue: one that
reads slowly skips to the newest state, and one that never reads costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.api.metrics import ApiMetrics
from services.api.states import TERMINAL_EXPORTS
from services.common.errors import DomainError, QuotaViolation, Reason
from services.common.subjects import UPDATES
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

log = structlog.get_logger()

# Rows are read again at least this often, should a signal be lost.
POLL_SECONDS = 5.0
# Bounds the reads of a row that changes all the time; short enough not to delay the end.
MIN_INTERVAL = 0.1

TERMINAL = frozenset(pb.ExportState.Value(f"EXPORT_STATE_{state}") for state in TERMINAL_EXPORTS)

Read = Callable[[str, str], Awaitable[pb.Export]]


@dataclass
class _Topic:
    """One watched export on this replica."""

    export_id: str
    user_id: str
    dirty: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    version: int = 0
    export: pb.Export | None = None
    error: DomainError | None = None
    watchers: int = 0
    reader: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether the last state seen is terminal."""
        return self.export is not None and self.export.state in TERMINAL


class Watches:
    """All watched exports of this replica.

    Args:
        read: returns an export as its owner sees it.
        limit: how many may watch at a time, for each costs its connection's buffers.
        per_user: how many of them one user may have, so that nobody takes them all.
    """

    def __init__(self, read: Read, metrics: ApiMetrics, *, limit: int, per_user: int) -> None:
        self._read = read
        self._metrics = metrics
        self._limit = limit
        self._per_user = per_user
        self._watchers: Counter[str] = Counter()
        self._topics: dict[tuple[str, str], _Topic] = {}
        self._by_export: dict[str, list[_Topic]] = {}
        self._closed = False

    async def listen(self, nats: Client) -> None:
        """Follow the changes of rows from now on."""
        await nats.subscribe(f"{UPDATES}.*", cb=self._on_update)

    async def _on_update(self, message: Msg) -> None:
        self.mark(task_pb2.ExportChanged.FromString(message.data).export_id)

    def mark(self, export_id: str) -> None:
        """Have an export read again, if anyone watches it."""
        for topic in self._by_export.get(export_id, ()):
            topic.dirty.set()

    def close(self) -> None:
        """End every watch: the service is going away, clients call again elsewhere."""
        self._closed = True
        for topic in list(self._topics.values()):
            topic.error = DomainError(Reason.DRAINING, "The service is restarting; call again.")
            topic.dirty.set()

    async def watch(self, export_id: str, user_id: str) -> AsyncIterator[pb.Export]:
        """Yield the export now, then after every change, until it is terminal.

        Raises:
            DomainError: EXPORT_NOT_FOUND, also when it is deleted meanwhile;
                TOO_MANY_WATCHES; DRAINING when the service goes away.
        """
        topic = self._join(export_id, user_id)
        seen = 0
        try:
            while True:
                async with topic.changed:
                    while topic.version == seen:
                        await topic.changed.wait()
                    seen = topic.version
                if topic.error is not None:
                    raise topic.error
                export = topic.export
                if export is not None:
                    yield export
                    # Not of the topic: a newer state may have come, which is still to be seen.
                    if export.state in TERMINAL:
                        return
        finally:
            self._leave(topic)

    def _join(self, export_id: str, user_id: str) -> _Topic:
        if self._closed:
            raise DomainError(Reason.DRAINING, "The service is restarting; call again.")
        self._check_limits(user_id)
        # The user is part of the key: nobody joins the watch of another user's export.
        key = (export_id, user_id)
        topic = self._topics.get(key)
        if topic is None:
            topic = _Topic(export_id, user_id)
            self._topics[key] = topic
            self._by_export.setdefault(export_id, []).append(topic)
            # Subscribed before the first read, so no change is missed in between.
            topic.dirty.set()
            topic.reader = asyncio.create_task(self._keep_reading(topic))
        topic.watchers += 1
        self._watchers[user_id] += 1
        self._metrics.watchers.inc()
        return topic

    def _check_limits(self, user_id: str) -> None:
        if self._watchers[user_id] >= self._per_user:
            raise DomainError(
                Reason.TOO_MANY_WATCHES,
                f"You have {self._per_user} watches at this replica, as many as a user may;"
                " end some, or poll.",
                quota=QuotaViolation(f"user:{user_id}", "watches of a user at one replica"),
            )
        if self._watchers.total() >= self._limit:
            raise DomainError(
                Reason.TOO_MANY_WATCHES,
                f"This replica has {self._limit} watches, as many as it may; try again, or poll.",
                quota=QuotaViolation("replica", "watches of all users at one replica"),
            )

    def _leave(self, topic: _Topic) -> None:
        self._metrics.watchers.dec()
        topic.watchers -= 1
        self._watchers[topic.user_id] -= 1
        if not self._watchers[topic.user_id]:
            del self._watchers[topic.user_id]
        if topic.watchers == 0:
            self._retire(topic)
            if topic.reader is not None:
                topic.reader.cancel()

    def _retire(self, topic: _Topic) -> None:
        """Have the next watcher begin anew: this topic has ended, or nobody is left."""
        if self._topics.get((topic.export_id, topic.user_id)) is topic:
            del self._topics[topic.export_id, topic.user_id]
            self._by_export[topic.export_id].remove(topic)
            if not self._by_export[topic.export_id]:
                del self._by_export[topic.export_id]

    async def _keep_reading(self, topic: _Topic) -> None:
        while topic.error is None and not topic.ended:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await topic.dirty.wait()
            except TimeoutError:
                pass
            topic.dirty.clear()
            if topic.error is None and await self._read_once(topic):
                await self._tell(topic)
            if topic.error is None and not topic.ended:
                await asyncio.sleep(MIN_INTERVAL)
        # A retried export is watched anew, although a slow watcher may still hold this end.
        self._retire(topic)
        # Also where `close` came between two reads.
        await self._tell(topic)

    async def _read_once(self, topic: _Topic) -> bool:
        """Read the export; return whether watchers have something new to see."""
        try:
            export = await self._read(topic.export_id, topic.user_id)
        except DomainError as error:
            # Without the database the last state stands meanwhile.
            if not error.retryable or topic.export is None:
                topic.error = error
            return False
        except Exception as error:
            log.error("watch failed", export_id=topic.export_id, exc_info=error)
            topic.error = DomainError(Reason.INTERNAL, "The service met an internal error.")
            return False
        if _same(export, topic.export):
            return False
        if topic.export is not None:
            export.progress = max(export.progress, topic.export.progress)
        topic.export = export
        return True

    async def _tell(self, topic: _Topic) -> None:
        async with topic.changed:
            topic.version += 1
            topic.changed.notify_all()


def _same(new: pb.Export, old: pb.Export | None) -> bool:
    """Return whether nothing but the signature of the download URL has changed."""
    if old is None:
        return False
    copy = pb.Export()
    copy.CopyFrom(new)
    if copy.HasField("output"):
        copy.output.download_url = old.output.download_url
        copy.output.download_url_expire_time.CopyFrom(old.output.download_url_expire_time)
    return copy == old
