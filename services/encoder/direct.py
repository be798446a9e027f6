"""Calls past the queue: probe, encode at once, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration

from services.common import ids
from services.common.checks import settings_violations, source_violations
from services.common.codecs import codec_of, has_pictures
from services.common.errors import DomainError, Reason, Violation, as_sentence, invalid_request
from services.common.families import SOUND_ALONE, FamilyChoice, choose_family, lacking_codec
from services.common.planner import frames_to_make, segment_violations
from services.common.smart_copy import NOT_COPIED, plan_with_copies
from services.common.sound import with_sound_of
from services.common.subjects import Lane
from services.encoder.board import CANCELLED, RELEASED, Run, TaskBoard
from services.encoder.errors import MediaError
from services.encoder.sources.prober import SourceProber
from services.encoder.storage import StorageClient
from services.encoder.tasks.whole import WholeEncode
from videoexport.v1 import encoder_service_pb2 as service
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

T = TypeVar("T")

PROGRESS_INTERVAL = 0.5
# What the bucket's lifecycle keeps previews for.
PREVIEW_LIFETIME = timedelta(days=1)
ENCODED_AT_ONCE = as_sentence(f"{NOT_COPIED}: this is made at once, in one run")


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
        capabilities: what this encoder can do with each family.
    """

    def __init__(
        self,
        board: TaskBoard,
        storage_client: StorageClient,
        prober: SourceProber,
        encode: WholeEncode,
        preview_limit: timedelta,
        capabilities: Sequence[pb.EncoderCapability],
    ) -> None:
        self._board = board
        self._storage = storage_client
        self._prober = prober
        self._encode = encode
        self._capabilities = capabilities
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
        alone = {
            "measure_quality": request.settings.measure_quality,
            "poster": request.settings.HasField("poster"),
            "sprites": request.settings.HasField("sprites"),
        }
        violations += [
            Violation(f"settings.{name}", "is made for exports alone")
            for name, given in alone.items()
            if given
        ]
        if violations:
            raise invalid_request(violations)
        choice = self._choose(request.settings)
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

    def _choose(self, settings: pb.ExportSettings) -> FamilyChoice:
        """Return the family for an Encode.

        Raises:
            DomainError: NO_ENCODER where it cannot make what is asked for.
        """
        if not has_pictures(settings.format):
            return SOUND_ALONE

        def problem(family: pb.EncoderFamily.ValueType) -> str | None:
            # Whether the source has 10 bits is not known yet.
            ten_bit = settings.dynamic_range == pb.DYNAMIC_RANGE_KEEP
            lacking = lacking_codec(self._capabilities, family, codec_of(settings), ten_bit=ten_bit)
            return lacking and f"this encoder does not make {lacking}"

        choice = choose_family(
            settings.encoder,
            gpu_live=self._board.slots[Lane.GPU] > 0,
            gpu_problem=problem(pb.ENCODER_FAMILY_NVENC),
        )
        found = problem(choice.family)
        if found is not None:
            raise DomainError(Reason.NO_ENCODER, as_sentence(found))
        return choice

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
        await self._storage.note_watermark(user_id, request.settings)
        plan, warnings = plan_with_copies(info, request.segments, request.settings, ENCODED_AT_ONCE)
        run.live.frame_count = frames_to_make(plan)
        work = task_pb2.WholeTask(
            info=with_sound_of(info, plan),
            plan=plan,
            family=run.live.family,
            family_reason=choice.reason,
            time_limit=self._preview_limit,
            tolerate_damage=True,
        )
        upload = storage.CreateUploadRequest(preview_id=preview_id, preview_format=plan.format)
        encoded = await self._encode.run(run, user_id, source, work, upload)
        signed = await self._storage.sign_preview(user_id, preview_id, plan.format)
        encoded.output.download_url = signed.url
        encoded.output.download_url_expire_time.CopyFrom(signed.expire_time)
        result = service.EncodeResult(
            output=encoded.output, warnings=(*choice.warnings, *warnings, *encoded.warnings)
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
