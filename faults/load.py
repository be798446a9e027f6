"""A closed loop of users: so many exports at a time, one after the other, until it is enough."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import grpc.aio

from faults.files import problem_of
from faults.journal import Accepted, Journal
from faults.orders import USERS, Fate, Order, orders
from faults.users import User
from services.local.cluster import LocalCluster
from videoexport.client import Refused, VideoExportError
from videoexport.v1 import export_pb2 as pb

ABANDONED = (VideoExportError, grpc.aio.AioRpcError, TimeoutError)


class Load:
    """The users at work.

    Attributes:
        ended: how many exports have ended in which state; deleted ones under DELETED.
        finished: how many orders are done with.
    """

    def __init__(
        self, cluster: LocalCluster, journal: Journal, *, seed: int, clips: Path, at_once: int
    ) -> None:
        """Nothing is ordered yet.

        Args:
            clips: folder of the sources.
            at_once: orders under way at a time.
        """
        self._cluster = cluster
        self._journal = journal
        self._orders = orders(seed)
        self._clips = clips
        self._at_once = at_once
        # Different in each campaign: nothing is reused from one that ran before on the cluster.
        self._name = f"campaign-{uuid4().hex[:8]}"
        self._enough = asyncio.Event()
        self._checking = asyncio.Semaphore(1)
        self._users: list[User] = []
        self.ended: Counter[str] = Counter()
        self.finished = 0

    def enough(self) -> None:
        """Take no new orders; `run` returns once those under way are done with."""
        self._enough.set()

    async def run(self) -> None:
        """Order, watch and check until it is enough."""
        async with AsyncExitStack() as stack:
            for number in range(USERS):
                user = User(f"{self._name}-{number}", self._cluster, self._journal, self._clips)
                self._users.append(await stack.enter_async_context(user))
            async with asyncio.TaskGroup() as group:
                for _ in range(self._at_once):
                    group.create_task(self._work())

    async def _work(self) -> None:
        while not self._enough.is_set():
            order = next(self._orders)
            try:
                await self._serve(order)
            except ABANDONED as error:
                text = f"{type(error).__name__}: {error}"
                self._journal.violated("every call is answered", f"order {order.number}", text)
            self.finished += 1

    async def _serve(self, order: Order) -> None:
        user = self._users[order.user]
        source = await self._source(user, order)
        request_id = uuid4().hex
        send = user.order_twice if order.fate is Fate.TWICE else user.order
        entry = await send(order, source, request_id)
        stopping = asyncio.create_task(self._stop(user, entry))
        try:
            export = await user.follow(entry)
            if (
                export is not None
                and export.state == pb.EXPORT_STATE_FAILED
                and export.error.retryable
            ):
                export = await self._tried_again(user, entry)
        finally:
            # What is deleted may have ended long ago.
            if order.fate is Fate.CANCEL and not entry.cancelled:
                stopping.cancel()
            (stopped,) = await asyncio.gather(stopping, return_exceptions=True)
        if isinstance(stopped, Exception):
            raise stopped
        if order.fate is Fate.DISCARD:
            await user.delete(entry)
        if export is None or entry.deleted:
            self.ended["DELETED"] += 1
            return
        self.ended[pb.ExportState.Name(export.state).removeprefix("EXPORT_STATE_")] += 1
        if export.state == pb.EXPORT_STATE_COMPLETED:
            await self._check_file(user, entry)

    async def _source(self, user: User, order: Order) -> str:
        match order.fate:
            case Fate.NO_VIDEO:
                return await user.upload_no_video()
            case Fate.FRESH:
                return await user.upload(order.clip)
            case _:
                return await user.source(order.clip)

    async def _stop(self, user: User, entry: Accepted) -> None:
        order = entry.order
        if order.fate not in {Fate.CANCEL, Fate.DELETE}:
            return
        await asyncio.sleep(order.life)
        await (user.cancel if order.fate is Fate.CANCEL else user.delete)(entry)

    async def _tried_again(self, user: User, entry: Accepted) -> pb.Export | None:
        """Retry once, as a user would, whatever it failed with."""
        try:
            await user.repeat(lambda: user.client.retry(entry.id))
        except Refused as refusal:
            # Done by an earlier attempt, whose answer was lost; or it is deleted.
            if refusal.reason not in {"EXPORT_ENDED", "NOT_RETRYABLE", "EXPORT_NOT_FOUND"}:
                raise
        return await user.follow(entry)

    async def _check_file(self, user: User, entry: Accepted) -> None:
        """Download what was made, as its owner, and play it through."""
        # One at a time: the cluster is to be busy, not this.
        async with self._checking:
            with tempfile.TemporaryDirectory(dir=self._clips) as folder:
                path = Path(folder) / "output.mp4"
                await user.repeat(lambda: user.client.download(entry.id, path))
                problem = await asyncio.to_thread(problem_of, path, entry.order.frames)
        entry.file_is_right = problem is None
        if problem is not None:
            self._journal.violated("every file is as ordered", entry.id, problem)
