"""The blocking client: the same calls for programs without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from videoexport.client.aio import DEFAULT_ADDRESS, AsyncClient
from videoexport.client.calls import Timeouts
from videoexport.client.errors import ClientClosed
from videoexport.client.files import OnBytes, ignore
from videoexport.client.naming import SegmentLike, SourceLike
from videoexport.v1 import export_pb2, export_service_pb2

T = TypeVar("T")

# What was cancelled gets so long to undo what it had begun: an upload tells the service to
# forget its parts, and waits a few seconds for the answer.
_UNDO_S = 10.0


class Client:
    """`AsyncClient` for blocking programs; safe to use from several threads.

    It runs an event loop in a thread of its own from construction to `close`.
    What each method does, takes and raises stands at `AsyncClient`; after `close`
    each raises `ClientClosed`. Ctrl-C ends a call once what it had begun is undone.

    Example:
        >>> with Client("127.0.0.1:50051", user="ann") as client:
        ...     video_id = client.upload("talk.mp4")
        ...     export = client.create_export(video_id, [(10, 15.5)])
        ...     for state in client.watch(export.id):
        ...         print(f"{state.progress:.0f} %")
        ...     client.download(export.id, "highlights.mp4")

    Args:
        address, user, storage_address, timeouts: as of `AsyncClient`.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        user: str,
        storage_address: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._client = AsyncClient(
            address, user=user, storage_address=storage_address, timeouts=timeouts
        )
        self._loop = asyncio.new_event_loop()
        # The calls under way; only the loop's thread looks here.
        self._calls: dict[Future[Any], asyncio.Task[Any]] = {}
        # Nothing is given to the loop once it is to end. Reentrant, because a forgotten
        # iterator may be collected, and so closed, at any moment.
        self._gate = threading.RLock()
        self._closed = False
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="videoexport-client", daemon=True
        )
        self._thread.start()
        self._run(self._client.__aenter__())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every channel and end the thread; closing twice is harmless.

        Calls under way in other threads undo what they had begun and raise `ClientClosed`.
        """
        with self._gate:
            self._closed = True
            if self._loop.is_closed():
                return
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def upload(
        self,
        path: str | Path,
        *,
        file_name: str | None = None,
        on_progress: OnBytes = ignore,
    ) -> str:
        """Upload a video and return its video id; `on_progress` runs in the client's thread."""
        return self._run(self._client.upload(path, file_name=file_name, on_progress=on_progress))

    def probe(self, source: SourceLike) -> export_pb2.SourceInfo:
        """Return what a source is."""
        return self._run(self._client.probe(source))

    def create_export(
        self,
        source: SourceLike,
        segments: Iterable[SegmentLike] = (),
        *,
        settings: export_pb2.ExportSettings | None = None,
        request_id: str | None = None,
        priority: int = 0,
    ) -> export_pb2.Export:
        """Order an export and return it at once."""
        return self._run(
            self._client.create_export(
                source, segments, settings=settings, request_id=request_id, priority=priority
            )
        )

    def plan(
        self,
        source: SourceLike,
        segments: Iterable[SegmentLike] = (),
        *,
        settings: export_pb2.ExportSettings | None = None,
    ) -> export_pb2.Plan | None:
        """Validate an order and return what it would produce."""
        return self._run(self._client.plan(source, segments, settings=settings))

    def get(self, export_id: str, *, history: bool = False) -> export_pb2.Export:
        """Return an export as it stands."""
        return self._run(self._client.get(export_id, history=history))

    def watch(self, export_id: str) -> Iterator[export_pb2.Export]:
        """Yield an export now and after every change, through its terminal state."""
        return self._iterate(self._client.watch(export_id))

    def wait(self, export_id: str, *, timeout: float | None = None) -> export_pb2.Export:
        """Return an export once it has ended with a file.

        Args:
            timeout: seconds to wait; default: without limit.

        Raises:
            TimeoutError: it has not ended in that time, and goes on.
        """

        async def ended() -> export_pb2.Export:
            async with asyncio.timeout(timeout):
                return await self._client.wait(export_id)

        return self._run(ended())

    def cancel(self, export_id: str) -> export_pb2.Export:
        """Cancel an export for good."""
        return self._run(self._client.cancel(export_id))

    def retry(self, export_id: str) -> export_pb2.Export:
        """Run again what failed of an export."""
        return self._run(self._client.retry(export_id))

    def delete(self, export_id: str) -> None:
        """Remove an export and its file."""
        self._run(self._client.delete(export_id))

    def download(
        self,
        export: export_pb2.Export | str,
        path: str | Path,
        *,
        replace: bool = True,
        on_progress: OnBytes = ignore,
    ) -> Path:
        """Download the file of a completed export, checked, and return where it lies."""
        return self._run(
            self._client.download(export, path, replace=replace, on_progress=on_progress)
        )

    def list_page(
        self, request: export_service_pb2.ListExportsRequest
    ) -> export_service_pb2.ListExportsResponse:
        """Return one page of the user's exports."""
        return self._run(self._client.list_page(request))

    def list(
        self,
        *,
        video_id: str | None = None,
        states: Iterable[export_pb2.ExportState.ValueType] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Iterator[export_pb2.Export]:
        """Yield the user's exports, newest first, fetching page after page."""
        return self._iterate(
            self._client.list(
                video_id=video_id,
                states=states,
                created_after=created_after,
                created_before=created_before,
            )
        )

    def encoders(self) -> Sequence[export_pb2.Encoder]:
        """Return the live encoders."""
        return self._run(self._client.encoders())

    def service_info(self) -> export_service_pb2.GetServiceInfoResponse:
        """Return the cluster's version and limits, and where it takes uploads."""
        return self._run(self._client.service_info())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        outcome: Future[T] = Future()
        try:
            with self._gate:
                if self._closed:
                    work.close()
                    raise ClientClosed
                self._loop.call_soon_threadsafe(self._begin, work, outcome)
            return outcome.result()
        except ClientClosed:
            raise
        except BaseException:
            # Ctrl-C arrives in the caller's thread, also before the wait for the outcome has
            # begun; the work must not go on unseen.
            if not outcome.done():
                self._loop.call_soon_threadsafe(self._stop, outcome)
                wait([outcome], timeout=_UNDO_S)
            raise

    def _begin(self, work: Coroutine[Any, Any, T], outcome: Future[T]) -> None:
        def settle(task: asyncio.Task[T]) -> None:
            del self._calls[outcome]
            if task.cancelled():
                # Whoever was interrupted hears nothing of it.
                outcome.set_exception(ClientClosed())
            elif error := task.exception():
                outcome.set_exception(error)
            else:
                outcome.set_result(task.result())

        task = self._calls[outcome] = self._loop.create_task(work)
        task.add_done_callback(settle)

    def _stop(self, outcome: Future[Any]) -> None:
        task = self._calls.get(outcome)
        if task is None:
            # Interrupted before it was begun.
            outcome.cancel()
        # Only once: a second cancellation would not wait for what the first one undoes.
        elif not task.cancelling():
            task.cancel()

    async def _end(self) -> None:
        calls = dict(self._calls)
        for outcome in calls:
            self._stop(outcome)
        if calls:
            await asyncio.wait(calls.values(), timeout=_UNDO_S)
        await self._loop.shutdown_asyncgens()
        await self._client.__aexit__(None, None, None)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        async def step() -> T:
            return await anext(items)

        try:
            while True:
                try:
                    item = self._run(step())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            # An iterator may outlive the client, whose end has closed the stream.
            with suppress(ClientClosed):
                self._run(items.aclose())
