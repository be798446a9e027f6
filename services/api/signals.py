"""Short-lived word of changes: to our own loops, to other replicas, to encoders.

Nothing here is needed for correctness: a lost signal costs one interval of
the loop that it would have woken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import nats.errors
from nats.aio.client import Client

from services.common.subjects import CANCEL, UPDATES
from videoexport.v1 import task_pb2


class Wake:
    """Wakes a loop that otherwise runs at an interval."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake the loop, now or before its next pause."""
        self._event.set()

    async def wait(self, interval: float) -> None:
        """Return when woken, after `interval` seconds at the latest."""
        try:
            async with asyncio.timeout(interval):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()


class Signals:
    """Tells whoever listens that something has changed.

    Attributes:
        dispatch: wakes the dispatcher.
        reconcile: wakes the reconciler.
    """

    def __init__(self, nats: Client) -> None:
        self._nats = nats
        self.dispatch = Wake()
        self.reconcile = Wake()

    @property
    def connected(self) -> bool:
        """Whether NATS can be reached, and so heartbeats can reach us."""
        return self._nats.is_connected

    async def export_changed(self, export_id: str) -> None:
        """Say that an export's row has changed; watchers on every replica read it again."""
        message = task_pb2.ExportChanged(export_id=export_id)
        await self._send(f"{UPDATES}.{export_id}", message.SerializeToString())

    async def stop_tasks(self, task_ids: Iterable[str]) -> None:
        """Tell encoders to stop every run of these tasks."""
        message = task_pb2.CancelTasks(task_ids=task_ids)
        if message.task_ids:
            await self._send(CANCEL, message.SerializeToString())

    async def stop_runs(self, run_ids: Iterable[str]) -> None:
        """Tell encoders to stop these runs alone."""
        message = task_pb2.CancelTasks(run_ids=run_ids)
        if message.run_ids:
            await self._send(CANCEL, message.SerializeToString())

    async def _send(self, subject: str, data: bytes) -> None:
        # While disconnected the client would keep messages for later, when
        # they are worth nothing.
        if not self._nats.is_connected:
            return
        try:
            await self._nats.publish(subject, data)
        except nats.errors.Error:
            return
