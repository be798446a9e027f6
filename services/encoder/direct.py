"""Calls past the queue: probe, encode at once, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration

from services.common import ids
from services.common.checks import settings_violations, source_violations
from services.common.errors import DomainError, Reason, as_sentence, invalid_request
from services.common.families import FamilyChoice, choose_family
from services.common.planner import plan_export, segment_violations
from services.common.sound import with_sound_of
from services.common.subjects import Lane
from services.encoder.board import CANCELLED, RELEASED, Run, TaskBoard
from services.encoder.errors import MediaError
from services.encoder.sources import SourceProber
from services.encoder.storage import StorageClient
from services.encoder.whole import WholeEncode
from videoexport.v1 import encoder_service_pb2 as service
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

T = TypeVar("T")

PROGRESS_INTERVAL = 0.5
# What the bucket's lifecycle keeps previews for.
PREVIEW_LIFETIME = timedelta(days=1)


async def _as_domain_error(work: Awaitable[T]) -> T:
    try:
        return await work
    except MediaError as error:
        raise DomainError(Reason(error.reason), as_sentence(str(error))) from error


class DirectCalls:
    """What EncoderService does by itself.

    Args:
        preview_limit: how long FFmpeg may run for one Encode; what takes longer belongs
            into the queue.
    """

    def __init__(
        self,
        board: TaskBoard,
        storage_client: StorageClient,
        prober: SourceProber,
        encode: WholeEncode,
        preview_limit: timedelta,
    ) -> None:
        self._board = board
        self._storage = storage_client
        self._prober = prober
        self._encode = encode
        self._preview_limit = Duration()
        self._preview_limit.FromTimedelta(preview_limit)
        self._draining: asyncio.Task[None] | None = None

    async def probe(self, user_id: str, source: pb.Source) -> pb.SourceInfo:
        """Examine a source now.

        Raises:
            DomainError: INVALID_REQUEST, SOURCE_NOT_FOUND, INVALID_SOURCE, SLOTS_BUSY.
        """
        violations = source_violations(source)
        if violations:
            raise invalid_request(violations)
        found = await self._storage.find_source(user_id, source)
        run = _new_run(Lane.PROBE, pb.TASK_KIND_PROBE)
        run.enter(pb.EXPORT_PHASE_PROBING)
        with self._board.slot(run):
            return await _as_domain_error(self._prober.probe(user_id, found))

    async def encode(
        self, user_id: str, request: service.EncodeRequest
    ) -> AsyncIterator[service.EncodeResponse]:
        """Encode now; yield progress, and the result at last. Closing it kills the encode.

        Raises:
            DomainError: INVALID_REQUEST, INVALID_SEGMENTS, SOURCE_NOT_FOUND,
                INVALID_SOURCE, SLOTS_BUSY, DRAINING, or why the encode failed.
        """
        violations = [
            *source_violations(request.source),
            *segment_violations(request.segments),
            *settings_violations(request.settings),
        ]
        if violations:
            raise invalid_request(violations)
        gpu_works = self._board.slots[Lane.GPU] > 0
        choice = choose_family(request.settings.encoder, gpu_live=gpu_works)
        if not self._board.slots[choice.lane]:
            raise DomainError(
                Reason.NO_ENCODER, f"This encoder does not encode on the {choice.lane.upper()}."
            )
        run = _new_run(choice.lane, pb.TASK_KIND_WHOLE)
        run.live.family = choice.family
        preview_id = ids.preview_id()
        with self._board.slot(run):
            work = asyncio.create_task(self._preview(run, user_id, request, choice, preview_id))
            # Drain stops it like any other run.
            run.work = work  # type: ignore[assignment]
            try:
                while not (await asyncio.wait({work}, timeout=PROGRESS_INTERVAL))[0]:
                    yield service.EncodeResponse(progress=run.live)
                yield service.EncodeResponse(result=await _as_domain_error(work))
            except asyncio.CancelledError:
                if run.stop_reason == RELEASED:
                    raise DomainError(Reason.DRAINING, "The encoder is going away.") from None
                raise
            finally:
                run.stop(CANCELLED)
                await asyncio.gather(work, return_exceptions=True)

    async def _preview(
        self,
        run: Run,
        user_id: str,
        request: service.EncodeRequest,
        choice: FamilyChoice,
        preview_id: str,
    ) -> service.EncodeResult:
        source = await self._storage.find_source(user_id, request.source)
        run.enter(pb.EXPORT_PHASE_PROBING)
        info = await self._prober.probe(user_id, source)
        plan = plan_export(info, request.segments, request.settings)
        run.live.frame_count = plan.frame_count
        work = task_pb2.WholeTask(
            info=with_sound_of(info, plan),
            plan=plan,
            family=run.live.family,
            family_reason=choice.reason,
            time_limit=self._preview_limit,
            tolerate_damage=True,
        )
        upload = storage.CreateUploadRequest(preview_id=preview_id)
        encoded = await self._encode.run(run, user_id, source, work, upload)
        signed = await self._storage.sign_preview(user_id, preview_id)
        encoded.output.download_url = signed.url
        encoded.output.download_url_expire_time.CopyFrom(signed.expire_time)
        result = service.EncodeResult(
            output=encoded.output, warnings=(*choice.warnings, *encoded.warnings)
        )
        result.expire_time.FromDatetime(datetime.now(UTC) + PREVIEW_LIFETIME)
        return result

    def drain(self, grace: float | None) -> None:
        """Take no new work; hand running tasks back after `grace` seconds, if that is given."""
        self._board.start_drain()
        # The newest word counts, also where it takes a limit away.
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        if grace is not None:
            self._draining = asyncio.create_task(self._board.drained(grace))


def _new_run(lane: Lane, kind: pb.TaskKind.ValueType) -> Run:
    live = pb.RunningTask(task_id=ids.task_id(), kind=kind)
    live.start_time.GetCurrentTime()
    return Run(ids.run_id(), 1, lane, live)
