"""The use cases of callers. Knows neither gRPC nor SQL."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from services.api.encoders import LiveEncoders
from services.api.forecast import Estimate, Forecast
from services.api.metrics import ApiMetrics
from services.api.page_token import decode_token, encode_token
from services.api.peers import probe_by_any
from services.api.planning import ExportPlanner
from services.api.progress import LiveProgress
from services.api.requests import check_create, check_export_id, check_list
from services.api.settings import ApiSettings
from services.api.signals import Signals
from services.api.states import ACTIVE_EXPORTS, ExportState
from services.api.store import ExportStore, TaskStore
from services.api.store.garbage import output_of
from services.api.store.records import (
    ExportRecord,
    ListFilter,
    NewExport,
    NewTask,
    Planned,
    Quotas,
    Submission,
    source_key,
)
from services.api.views import add_history, to_export
from services.api.work import Order, probe_task
from services.common import ids
from services.common.checks import source_violations
from services.common.codecs import container_of
from services.common.content_key import RECIPE_VERSION
from services.common.errors import DomainError, Reason
from services.common.examined import knows_enough, tells_all
from services.common.stills import files_of
from services.common.storage import StorageCalls
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1 import storage_service_pb2 as storage_pb

log = structlog.get_logger()

DEFAULT_PAGE_SIZE = 50
# The StorageService signs none for less.
SHORTEST_URL = timedelta(minutes=1)


class Exports:
    """Creates, reads and manages exports on behalf of users."""

    def __init__(
        self,
        settings: ApiSettings,
        store: ExportStore,
        tasks: TaskStore,
        storage: StorageCalls,
        planner: ExportPlanner,
        encoders: LiveEncoders,
        progress: LiveProgress,
        forecast: Forecast,
        signals: Signals,
        metrics: ApiMetrics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._tasks = tasks
        self._storage = storage
        self._planner = planner
        self._encoders = encoders
        self._progress = progress
        self._forecast = forecast
        self._signals = signals
        self._metrics = metrics
        self._quotas = Quotas(
            exports_per_hour=settings.exports_per_hour,
            running_per_user=settings.running_per_user,
            queue_limit=settings.queue_limit,
        )

    async def create(
        self, request: service.CreateExportRequest, user_id: str
    ) -> tuple[pb.Export | None, pb.Plan | None]:
        """Store an export, or with `validate_only` return its plan alone.

        Raises:
            DomainError: every reason that CreateExport lists.
        """
        try:
            check_create(request)
        except DomainError:
            await self._check_against_source(request, user_id)
            raise
        submission = Submission(request.request_id or None, _body_hash(request))
        if not request.validate_only:
            # Asked first: a repeated call gets its export even if the source is gone by now.
            earlier = await self._store.earlier(user_id, submission)
            if earlier is not None:
                return await self.view(earlier), earlier.plan
        source = await self._storage.find_source(user_id, request.source)
        key = source_key(user_id, request.source)
        info = await self._tasks.find_probe(key, source.etag)
        if info and not self._is_told(info, request.settings):
            # Examined once more, by an encoder that tells more.
            info = None
        await self._storage.note_watermark(user_id, request.settings)
        export_id = "" if request.validate_only else ids.export_id()
        order = Order(export_id, user_id, source, request.segments, request.settings)
        if request.validate_only:
            if info is None:
                info = await self._probe_now(user_id, key, request.source)
            return None, (await self._planner.plan(order, info)).plan
        planned = None if info is None else await self._planner.plan(order, info)
        record = await self._store_new(request, order, planned, submission)
        return await self.view(record), record.plan

    def _is_told(self, info: pb.SourceInfo, settings: pb.ExportSettings) -> bool:
        """Return whether a source is known as well as it can be at the moment.

        While encoders are upgraded, one of before may be who examines it once more: what it
        says is planned with, as far as that is enough.
        """
        can_tell_all = self._encoders.newest_recipe(Lane.PROBE) >= RECIPE_VERSION
        return knows_enough(info, settings) and (tells_all(info) or not can_tell_all)

    async def _check_against_source(
        self, request: service.CreateExportRequest, user_id: str
    ) -> None:
        """Check a faulty request once more, so that misfits with a known source are listed too.

        Raises:
            DomainError: INVALID_REQUEST with every violation; where the source
                cannot be looked up, nothing.
        """
        if source_violations(request.source):
            return
        try:
            source = await self._storage.find_source(user_id, request.source)
            info = await self._tasks.find_probe(source_key(user_id, request.source), source.etag)
        except DomainError:
            return
        check_create(request, info)

    async def _store_new(
        self,
        request: service.CreateExportRequest,
        order: Order,
        planned: Planned | None,
        submission: Submission,
    ) -> ExportRecord:
        """Store an export with its tasks; where the source is not known yet, with its probe."""
        new = NewExport(
            id=order.export_id,
            user_id=order.user_id,
            source=request.source,
            source_etag=order.source.etag,
            source_size_bytes=order.source.size_bytes,
            segments=request.segments,
            settings=request.settings,
            priority=request.priority,
        )
        work: Sequence[NewTask] = [probe_task(new.id, new.user_id, order.source)]
        if planned is not None:
            work = planned.work
            new = replace(
                new,
                plan=planned.plan,
                warnings=planned.warnings,
                fingerprint=planned.fingerprint,
            )
        record = await self._store.create(new, work, submission, self._quotas)
        if record.id == new.id:
            self._metrics.created(record)
            self._signals.dispatch.set()
        return record

    async def _probe_now(self, user_id: str, key: str, source: pb.Source) -> pb.SourceInfo:
        """Have some encoder examine a source, and keep what it says.

        Raises:
            DomainError: INVALID_SOURCE, NO_ENCODER, TIME_LIMIT.
        """
        addresses = self._encoders.addresses()
        info = await probe_by_any(addresses, user_id, source, self._settings.probe_timeout)
        await self._tasks.keep_probe(key, info)
        return info

    async def get(self, export_id: str, user_id: str, *, history: bool = False) -> pb.Export:
        """Return one export, with its history where that is wanted.

        Raises:
            DomainError: EXPORT_NOT_FOUND.
        """
        check_export_id(export_id)
        export = await self.view(await self._store.get(export_id, user_id))
        if history:
            add_history(export, await self._store.history(export_id, user_id))
        return export

    async def page(
        self, request: service.ListExportsRequest, user_id: str
    ) -> service.ListExportsResponse:
        """Return one page of the user's exports, without segments, violations and download URLs.

        Raises:
            DomainError: INVALID_REQUEST, INVALID_PAGE_TOKEN.
        """
        check_list(request)
        size = request.page_size or DEFAULT_PAGE_SIZE
        # One more than the page tells whether there is a next one.
        records, total = await self._store.page(
            _list_filter(request, user_id), limit=size + 1, before=decode_token(request)
        )
        response = service.ListExportsResponse(
            exports=[await self._without_url(record) for record in records[:size]],
            total_size=total,
        )
        if len(records) > size:
            last = records[size - 1]
            response.next_page_token = encode_token(request, last.created_at, last.id)
        return response

    async def cancel(self, export_id: str, user_id: str) -> pb.Export:
        """Cancel an export for good.

        Raises:
            DomainError: EXPORT_NOT_FOUND, EXPORT_ENDED.
        """
        check_export_id(export_id)
        record, running = await self._store.cancel(export_id, user_id)
        await self._after_end(export_id, running)
        return await self.view(record)

    async def retry(self, export_id: str, user_id: str) -> pb.Export:
        """Queue a failed export again.

        Raises:
            DomainError: EXPORT_NOT_FOUND, EXPORT_ENDED, NOT_RETRYABLE, a quota.
        """
        check_export_id(export_id)
        record = await self._store.retry(export_id, user_id, self._quotas)
        self._signals.dispatch.set()
        await self._signals.export_changed(export_id)
        return await self.view(record)

    async def delete(self, export_id: str, user_id: str) -> None:
        """Remove an export and its output.

        Raises:
            DomainError: EXPORT_NOT_FOUND.
        """
        check_export_id(export_id)
        await self._after_end(export_id, await self._store.delete(export_id, user_id))

    async def _after_end(self, export_id: str, running: list[str]) -> None:
        await self._signals.stop_tasks(running)
        await self._signals.export_changed(export_id)
        self._signals.reconcile.set()

    async def view(self, record: ExportRecord) -> pb.Export:
        """Return a record as its owner sees it, with a new download URL where there is a file."""
        urls: dict[str, storage_pb.SignDownloadResponse] = {}
        if record.state is ExportState.COMPLETED and record.output_run_id is not None:
            try:
                urls = await self._urls(record, record.output_run_id)
            except DomainError as error:
                # The export itself can be told although storage is away.
                log.warning("no download url", export_id=record.id, reason=error.reason)
                if error.reason is Reason.OBJECT_NOT_FOUND:
                    # Since the row was read retention or its owner has removed the file.
                    record = await self._store.get(record.id, record.user_id)
        return to_export(record, self._progress.of(record.id), await self._estimate(record), urls)

    async def _urls(
        self, record: ExportRecord, run_id: str
    ) -> dict[str, storage_pb.SignDownloadResponse]:
        """Return new download URLs of an output's files, by name; that of the video by none.

        One of a still that cannot be had at the moment is left out.

        Raises:
            DomainError: OBJECT_NOT_FOUND, STORAGE_UNAVAILABLE; of the video.
        """
        stills = [] if record.output is None else files_of(record.output)
        lifetime = self._url_lifetime(record)

        form = (record.plan or record.settings).format

        async def sign(file: str) -> storage_pb.SignDownloadResponse:
            reference = output_of(record.id, run_id)
            reference.export_output.format, reference.export_output.file = form, file
            # Stills are shown where they are, by players and pages.
            name = "" if file else f"{record.id}.{container_of(form).suffix}"
            return await self._storage.sign(record.user_id, reference, lifetime, file_name=name)

        urls = {"": await sign("")}
        signed = await asyncio.gather(*map(sign, stills), return_exceptions=True)
        for name, answer in zip(stills, signed, strict=True):
            if isinstance(answer, DomainError):
                log.warning("no url of a still", export_id=record.id, reason=answer.reason)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                urls[name] = answer
        return urls

    def _url_lifetime(self, record: ExportRecord) -> timedelta:
        """Return how long a URL works: no longer than its file, but a minute at least."""
        lifetime = timedelta(seconds=self._settings.download_url_seconds)
        if record.expires_at is not None:
            lifetime = min(lifetime, record.expires_at - datetime.now(UTC))
        return max(lifetime, SHORTEST_URL)

    async def _without_url(self, record: ExportRecord) -> pb.Export:
        return to_export(record, self._progress.of(record.id), await self._estimate(record))

    async def _estimate(self, record: ExportRecord) -> Estimate | None:
        return await self._forecast.of(record.id) if record.state in ACTIVE_EXPORTS else None


def _body_hash(request: service.CreateExportRequest) -> bytes:
    body = service.CreateExportRequest()
    body.CopyFrom(request)
    body.ClearField("request_id")
    return hashlib.sha256(body.SerializeToString(deterministic=True)).digest()


def _list_filter(request: service.ListExportsRequest, user_id: str) -> ListFilter:
    def time(name: str) -> datetime | None:
        if not request.HasField(name):  # type: ignore[arg-type]
            return None
        value: datetime = getattr(request, name).ToDatetime(tzinfo=UTC)
        return value

    return ListFilter(
        user_id=user_id,
        video_id=request.video_id or None,
        # Each once: a state that is repeated is the same filter.
        states=tuple(ExportState.of(state) for state in sorted(set(request.states))),
        created_after=time("created_after"),
        created_before=time("created_before"),
    )
