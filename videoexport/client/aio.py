"""The asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from videoexport.client.calls import Backoff, Connection, Timeouts
from videoexport.client.errors import (
    ExportFailed,
    LocalFileFailed,
    Refused,
    ServiceUnreachable,
    TransferFailed,
)
from videoexport.client.files import FileStore, OnBytes, ignore
from videoexport.client.naming import (
    SegmentLike,
    SourceLike,
    segment_message,
    source_message,
    user_name,
)
from videoexport.client.probing import probe
from videoexport.client.watching import watch
from videoexport.v1 import export_pb2, export_service_pb2
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub

DEFAULT_ADDRESS = "127.0.0.1:50051"

# Ends without a file; an expired export had one.
_WITHOUT_FILE = (export_pb2.EXPORT_STATE_FAILED, export_pb2.EXPORT_STATE_CANCELLED)


class AsyncClient:
    """Exports segments of videos through a videoexport cluster.

    Every method may raise `ServiceUnreachable` when nobody answers in time and
    `Refused` when the service declines; what else it raises stands beside it.
    Calls outlast outages of `Timeouts.connect` seconds: each may safely be sent
    again, creating an export too, because it always carries a request id.

    Example:
        >>> async with AsyncClient("127.0.0.1:50051", user="ann") as client:
        ...     video_id = await client.upload("talk.mp4")
        ...     export = await client.create_export(video_id, [("00:00:10", "00:00:15.5")])
        ...     async for export in client.watch(export.id):
        ...         print(f"{export.progress:.0f} %")
        ...     await client.download(export, "highlights.mp4")

    Args:
        address: `host:port` of the ExportService.
        user: on whose behalf every call is made.
        storage_address: `host:port` of the StorageService; default: asked from the
            ExportService when it is first needed.
        timeouts: how patient to be.

    Raises:
        ValueError: `user` is not a name that the services take.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        user: str,
        storage_address: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.address = address
        self.user = user_name(user)
        self._storage_address = storage_address
        self._timeouts = timeouts or Timeouts()
        self._opened = AsyncExitStack()
        self._files: FileStore | None = None

    async def __aenter__(self) -> Self:
        """Open the channel; nothing is sent before the first call."""
        self._connection = Connection(self.address, self.user, self._timeouts)
        self._opened.push_async_callback(self._connection.close)
        self._stub = ExportServiceStub(self._connection.channel)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every channel; calls under way end with an error."""
        await self._opened.aclose()

    # Sources

    async def upload(
        self,
        path: str | Path,
        *,
        file_name: str | None = None,
        on_progress: OnBytes = ignore,
    ) -> str:
        """Upload a video straight to S3 and return its video id.

        Example:
            >>> video_id = await client.upload("talk.mp4", on_progress=print)

        Args:
            path: a local file.
            file_name: under which the service knows it; default: the file's own name.
            on_progress: called with (bytes sent, bytes in all).

        Raises:
            OSError: there is no such file.
            Refused: it is empty, or the service does not take its name or size.
            LocalFileFailed: it cannot be read, is no regular file, or its name is not text.
            TransferFailed: it did not arrive; nothing is left behind.
        """
        store = await self._file_store()
        path = Path(path)
        return await store.upload(path, file_name=file_name or path.name, on_progress=on_progress)

    async def probe(self, source: SourceLike) -> export_pb2.SourceInfo:
        """Return what a source is, examined by a live encoder.

        Example:
            >>> info = await client.probe("s3://footage/talk.mp4")
            >>> info.video.width, info.video.height
            (1280, 720)

        Args:
            source: a video id, `s3://bucket/key` or a Source.

        Raises:
            ValueError: text that is none of these.
            Refused: `INVALID_SOURCE` when it is not a video that can be exported.
        """
        message = source_message(source)
        return await probe(self.encoders, message, self.user, self._timeouts)

    # Exports

    async def create_export(
        self,
        source: SourceLike,
        segments: Iterable[SegmentLike] = (),
        *,
        settings: export_pb2.ExportSettings | None = None,
        request_id: str | None = None,
        priority: int = 0,
    ) -> export_pb2.Export:
        """Order an export and return it at once; the work is done afterwards.

        Example:
            >>> export = await client.create_export(
            ...     "s3://footage/talk.mp4",
            ...     [(0, 2.5), ("00:10:00", "00:10:30")],
            ...     settings=ExportSettings(quality=QUALITY_HIGH),
            ... )

        Args:
            source: a video id, `s3://bucket/key` or a Source.
            segments: in output order, as messages or (start, end) pairs; see `duration`
                for what a time may be. Default: the whole source.
            settings: how the output is made; default: every default of ExportSettings.
            request_id: makes it idempotent for 24 hours, also over several processes;
                default: a new one for this call. It must not be empty.
            priority: -100 to 100; higher runs earlier among the user's exports.

        Raises:
            ValueError: a time, the source or the request id is not of a form listed above.
            Refused: with all `violations`, or with `retry_after` when a quota is reached.
        """
        # To the service an empty one is none: the export would be made anew each time.
        if request_id == "":
            raise ValueError("the request id is empty")
        response = await self._connection.call(
            self._stub.CreateExport,
            export_service_pb2.CreateExportRequest(
                source=source_message(source),
                segments=map(segment_message, segments),
                settings=settings,
                request_id=uuid4().hex if request_id is None else request_id,
                priority=priority,
            ),
        )
        return response.export

    async def plan(
        self,
        source: SourceLike,
        segments: Iterable[SegmentLike] = (),
        *,
        settings: export_pb2.ExportSettings | None = None,
    ) -> export_pb2.Plan | None:
        """Validate an order and return what it would produce; nothing is stored.

        Example:
            >>> plan = await client.plan(video_id, [(10, 12)])
            >>> plan.frame_count
            50

        Returns:
            The plan, exact to the frame; None where the source cannot be probed at once.

        Raises:
            ValueError, Refused: as `create_export` would.
        """
        response = await self._connection.call(
            self._stub.CreateExport,
            export_service_pb2.CreateExportRequest(
                source=source_message(source),
                segments=map(segment_message, segments),
                settings=settings,
                validate_only=True,
            ),
            # A source that nobody has exported from yet is probed first.
            timeout=self._timeouts.probe,
        )
        return response.plan if response.HasField("plan") else None

    async def get(self, export_id: str, *, history: bool = False) -> export_pb2.Export:
        """Return an export as it stands, with a fresh download URL once it is completed.

        Example:
            >>> export = await client.get(export_id, history=True)
            >>> for change in export.history:
            ...     print(change.change_time.ToDatetime(), change.actor, change.reason)

        Args:
            history: whether to tell in `history` who changed which state, when and why.
        """
        response = await self._connection.call(
            self._stub.GetExport,
            export_service_pb2.GetExportRequest(export_id=export_id, include_history=history),
        )
        return response.export

    def watch(self, export_id: str) -> AsyncGenerator[export_pb2.Export, None]:
        """Yield an export now and after every change, through its terminal state.

        Goes on after a lost connection, for up to `Timeouts.reconnect` seconds of
        outage. `progress` never goes back.

        Example:
            >>> async for export in client.watch(export_id):
            ...     print(export.phase, export.encode_status.frames_per_second)
        """
        return watch(self._connection, self._stub, export_id)

    async def wait(self, export_id: str) -> export_pb2.Export:
        """Return an export once it has ended with a file.

        Example:
            >>> async with asyncio.timeout(600):
            ...     export = await client.wait(export_id)

        Raises:
            ExportFailed: it failed or was cancelled.
        """
        async with aclosing(self.watch(export_id)) as states:
            async for export in states:
                latest = export
        if latest.state in _WITHOUT_FILE:
            raise ExportFailed(latest)
        return latest

    async def cancel(self, export_id: str) -> export_pb2.Export:
        """Cancel an export for good and return it; cancelling it again changes nothing.

        Raises:
            Refused: `EXPORT_ENDED` when it is completed, failed or expired.
        """
        response = await self._connection.call(
            self._stub.CancelExport, export_service_pb2.CancelExportRequest(export_id=export_id)
        )
        return response.export

    async def retry(self, export_id: str) -> export_pb2.Export:
        """Run again what failed of an export, and return it queued.

        Raises:
            Refused: `NOT_RETRYABLE` or `EXPORT_ENDED` when that makes no sense.
        """
        response = await self._connection.call(
            self._stub.RetryExport, export_service_pb2.RetryExportRequest(export_id=export_id)
        )
        return response.export

    async def delete(self, export_id: str) -> None:
        """Remove an export and its file, and nothing else; a running one is cancelled first."""
        await self._connection.call(
            self._stub.DeleteExport,
            export_service_pb2.DeleteExportRequest(export_id=export_id),
            # What the second attempt hears when only the answer to the first was lost.
            done_before=("EXPORT_NOT_FOUND", export_service_pb2.DeleteExportResponse()),
        )

    async def download(
        self,
        export: export_pb2.Export | str,
        path: str | Path,
        *,
        replace: bool = True,
        on_progress: OnBytes = ignore,
    ) -> Path:
        """Download the file of a completed export, check it, and return where it lies.

        The file appears under its name only when it is whole: its size and SHA-256
        are those that the encoder measured.

        Example:
            >>> await client.download(export.id, "highlights.mp4")

        Args:
            export: a completed export, or its id.
            path: where to put the file.
            replace: whether a file that has that name when the download is complete gives
                way; if not, the download is kept beside it under a name that the error tells.
            on_progress: called with (bytes received, bytes in all).

        Raises:
            Refused: `NOT_COMPLETED`, the export has no file (yet, or any more).
            LocalFileFailed: the file cannot be written, or exists and is not to be replaced.
            TransferFailed: the bytes did not arrive, or are not those of the export.
        """
        # Read again even if given: the URL in an older answer may have expired.
        export = await self._with_url(export if isinstance(export, str) else export.id)
        output = export.output
        store = await self._file_store()
        try:
            await store.download(
                output.download_url,
                Path(path),
                size=output.size_bytes,
                sha256=output.sha256,
                replace=replace,
                on_progress=on_progress,
            )
        except LocalFileFailed:
            raise
        except TransferFailed:
            # Retention or its owner may have removed the file since: that is the truer reason.
            with suppress(ServiceUnreachable):
                await self._with_url(export.id)
            raise
        return Path(path)

    async def _with_url(self, export_id: str) -> export_pb2.Export:
        """Return a completed export whose file can be fetched."""
        backoff = Backoff(self._timeouts.connect)
        while True:
            export = await self.get(export_id)
            if export.output.download_url:
                return export
            if export.state != export_pb2.EXPORT_STATE_COMPLETED:
                state = export_pb2.ExportState.Name(export.state).removeprefix("EXPORT_STATE_")
                raise Refused("NOT_COMPLETED", f"Export {export.id} has no file: it is {state}.")
            # An export is told although storage, which signs URLs, is away.
            if not await backoff.pause():
                raise ServiceUnreachable(
                    f"The file of export {export.id} cannot be reached at the moment.",
                    reason="STORAGE_UNAVAILABLE",
                )

    async def list_page(
        self, request: export_service_pb2.ListExportsRequest
    ) -> export_service_pb2.ListExportsResponse:
        """Return one page of the user's exports, newest first, with the total over all pages."""
        return await self._connection.call(self._stub.ListExports, request)

    async def list(
        self,
        *,
        video_id: str | None = None,
        states: Iterable[export_pb2.ExportState.ValueType] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> AsyncGenerator[export_pb2.Export, None]:
        """Yield the user's exports, newest first, fetching page after page.

        Example:
            >>> async for export in client.list(states=[EXPORT_STATE_COMPLETED]):
            ...     print(export.id, export.output.size_bytes)

        Args:
            video_id: only exports of this uploaded video.
            states: only exports in one of these.
            created_after: only exports created at this time or later, aware of its zone.
            created_before: only exports created earlier than this.

        Raises:
            ValueError: the video id is empty, or a time has no zone.
        """
        # To the service an empty one is none: the exports of all videos would be listed.
        if video_id == "":
            raise ValueError("the video id is empty")
        request = export_service_pb2.ListExportsRequest(
            video_id=video_id or "",
            states=states,
            created_after=_timestamp(created_after),
            created_before=_timestamp(created_before),
        )
        while True:
            page = await self.list_page(request)
            for export in page.exports:
                yield export
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    # The cluster

    async def encoders(self) -> Sequence[export_pb2.Encoder]:
        """Return the live encoders with their capabilities and running tasks."""
        response = await self._connection.call(
            self._stub.ListEncoders, export_service_pb2.ListEncodersRequest()
        )
        return response.encoders

    async def service_info(self) -> export_service_pb2.GetServiceInfoResponse:
        """Return the cluster's version and limits, and where it takes uploads."""
        return await self._connection.call(
            self._stub.GetServiceInfo, export_service_pb2.GetServiceInfoRequest()
        )

    async def _file_store(self) -> FileStore:
        if self._files is None:
            address = self._storage_address or (await self.service_info()).storage_address
            self._files = await self._opened.enter_async_context(
                FileStore(address, self.user, self._timeouts)
            )
        return self._files


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
