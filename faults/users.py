"""Users of a cluster that fails: they order, watch, cancel, delete, and try again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc.aio

from faults.journal import Accepted, Journal, Sight
from faults.orders import RATE, Order, Ranges
from services.api.states import TERMINAL_EXPORTS, ExportState
from services.common.errors import Reason
from services.local.cluster import LocalCluster
from tests.media.frame_codes import Clip, generate
from videoexport.channel import call_metadata, open_channel
from videoexport.client import AsyncClient, Refused, ServiceUnreachable, TransferFailed
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub

T = TypeVar("T")

# Longer than anything of the catalogue keeps the cluster from answering.
OUTAGE_S = 120.0
# And from working: with all that waits before it.
WORK_S = 300.0
PAUSE_S = 0.3
# A watch is opened anew after so long, whether or not it still tells anything.
STREAM_S = 20.0
# The output is always at least 720p; nothing here needs its quality.
SETTINGS = pb.ExportSettings(resolution=pb.RESOLUTION_720P, quality=pb.QUALITY_LOW)
# Answers to a stream that say that it is to be opened again.
BROKEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)


class User:
    """One caller of all replicas; an async context manager."""

    def __init__(self, name: str, cluster: LocalCluster, journal: Journal, clips: Path) -> None:
        """Nothing is called yet.

        Args:
            clips: folder of the sources.
        """
        self.name = name
        self._addresses = [api.address for api in cluster.apis]
        self._address = cluster.address
        self._journal = journal
        self._clips = clips
        self._sources: dict[int, asyncio.Task[str]] = {}
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open a client of all replicas, and one of each."""
        enter = self._opened.enter_async_context
        self.client = await enter(AsyncClient(self._address, user=self.name))
        self._each = [
            await enter(AsyncClient(address, user=self.name)) for address in self._addresses
        ]
        self._channel = await enter(open_channel(self._address))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every call."""
        for task in self._sources.values():
            task.cancel()
        await asyncio.gather(*self._sources.values(), return_exceptions=True)
        await self._opened.aclose()

    # Sources

    async def source(self, frames: int) -> str:
        """Return the id of a clip of so many frames, uploaded once."""
        if frames not in self._sources:
            self._sources[frames] = asyncio.create_task(self.upload(frames))
        return await asyncio.shield(self._sources[frames])

    async def upload(self, frames: int) -> str:
        """Upload a clip, and return its id."""
        path = await asyncio.to_thread(generate, clip_of(frames), self._clips)
        return await self._upload(path)

    async def upload_no_video(self) -> str:
        """Upload a text, and return its id."""
        path = self._clips / "no-video.mp4"
        if not path.exists():
            path.write_text("This is no video.\n" * 1000)
        return await self._upload(path)

    async def _upload(self, path: Path) -> str:
        async def send() -> str:
            try:
                return await self.client.upload(path)
            except (ServiceUnreachable, TransferFailed):
                # It may be there all the same: the answer alone may have been lost.
                self._journal.unsure_uploads[self.name] += 1
                raise

        video_id = await self.repeat(send)
        self._journal.sources.add((self.name, video_id))
        return video_id

    # Exports

    async def order(self, order: Order, source: str, request_id: str) -> Accepted:
        """Order until it is accepted, and write it down."""
        created = await self.repeat(
            lambda: self.client.create_export(
                source, seconds_of(order.ranges), settings=SETTINGS, request_id=request_id
            )
        )
        return self._journal.accept(created.id, self.name, order)

    async def order_twice(self, order: Order, source: str, request_id: str) -> Accepted:
        """Order at every replica at the same time, under one request id."""

        async def at(client: AsyncClient) -> Accepted:
            created = await self.repeat(
                lambda: client.create_export(
                    source, seconds_of(order.ranges), settings=SETTINGS, request_id=request_id
                )
            )
            return self._journal.accept(created.id, self.name, order)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(at(client)) for client in self._each]
        first, *others = [task.result() for task in tasks]
        for other in others:
            if other.id != first.id:
                self._journal.violated(
                    "one request, one export", first.id, f"{other.id} has the same request id"
                )
        return first

    async def cancel(self, entry: Accepted) -> None:
        """Cancel, unless it has ended."""
        entry.cancelled = True
        try:
            export = await self.repeat(lambda: self.client.cancel(entry.id))
            entry.cancel_answer = ExportState.of(export.state)
        except Refused as refusal:
            if refusal.reason != Reason.EXPORT_ENDED:
                raise
            entry.cancel_refused = True

    async def delete(self, entry: Accepted) -> None:
        """Delete, whatever it does."""
        entry.deleted = True
        try:
            await self.repeat(lambda: self.client.delete(entry.id))
        except Refused as refusal:
            # An earlier attempt, whose answer was lost.
            if refusal.reason != Reason.EXPORT_NOT_FOUND:
                raise
        entry.deletion_answered = True

    async def follow(self, entry: Accepted) -> pb.Export | None:
        """Watch an export to its end and write down all that is told; None when it is deleted.

        Raises:
            TimeoutError: it did not end.
        """
        stub = ExportServiceStub(self._channel)
        request = service.WatchExportRequest(export_id=entry.id)
        async with asyncio.timeout(WORK_S):
            while True:
                seen: list[Sight] = []
                entry.streams.append(seen)
                call = stub.WatchExport(
                    request,
                    metadata=call_metadata(self.name),
                    timeout=STREAM_S,
                    wait_for_ready=True,
                )
                ended = None
                try:
                    # To the end of the stream: nothing is to follow the end of the export.
                    async for response in call:
                        export = response.export
                        seen.append(Sight(export.state, export.progress))
                        if export.state == pb.EXPORT_STATE_COMPLETED:
                            entry.digests.add(export.output.sha256)
                        if ExportState.of(export.state) in TERMINAL_EXPORTS:
                            ended = ended or export
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.NOT_FOUND and entry.deleted:
                        return None
                    if ended is None and error.code() not in BROKEN:
                        raise
                finally:
                    call.cancel()
                if ended is not None:
                    return ended
                await asyncio.sleep(PAUSE_S)

    async def repeat(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until somebody answers.

        Raises:
            Refused: the service declined.
            ServiceUnreachable, TransferFailed: nobody answered for longer than any fault lasts.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + OUTAGE_S
        while True:
            try:
                return await call()
            except (ServiceUnreachable, TransferFailed) as error:
                if getattr(error, "reason", "") == Reason.INTERNAL:
                    # A fault was met that nobody has thought of.
                    self._journal.violated("no answer is INTERNAL", self.name, str(error))
                if loop.time() > end:
                    raise
            await asyncio.sleep(PAUSE_S)


def clip_of(frames: int) -> Clip:
    """Return the clip of so many frames, each of which carries its number."""
    return Clip(frames=frames)


def seconds_of(ranges: Ranges) -> list[tuple[float, float]]:
    """Return ranges of frames as the seconds that they begin and end at."""
    return [(start / RATE, end / RATE) for start, end in ranges]
