"""Exports as callers see them: the row, what is live, what to expect, and a download URL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction

from google.protobuf.timestamp_pb2 import Timestamp

from services.api.forecast import Estimate
from services.api.measuring import compared_frames
from services.api.progress import Live, phase_of
from services.api.states import ACTIVE_EXPORTS, ExportState
from services.api.store.history import History, StateChange
from services.api.store.records import ExportRecord
from services.api.work import FRAMES_PER_JOIN
from services.common.enum_names import value_or_unspecified
from services.common.planner import FRAMES_PER_SOUND, duration_of
from services.common.stills import POSTER, SHEETS, VTT
from services.common.times import timestamp_of
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage

# Of the work on an export in parts, beside its pictures: its sound and its assembly.
PARTS_SHARE = 1 / FRAMES_PER_SOUND + 1 / FRAMES_PER_JOIN


def to_export(
    record: ExportRecord,
    live: Live | None = None,
    estimate: Estimate | None = None,
    urls: Mapping[str, storage.SignDownloadResponse] | None = None,
) -> pb.Export:
    """Return the export of a record.

    Args:
        live: what its encoders have said of it.
        estimate: what to expect of it.
        urls: where the output's files can be downloaded, by name; the video by none.
    """
    export = pb.Export(
        id=record.id,
        user_id=record.user_id,
        source=record.source,
        segments=record.segments,
        settings=record.settings,
        state=pb.ExportState.Value(f"EXPORT_STATE_{record.state}"),
        phase=value_or_unspecified(pb.ExportPhase, f"EXPORT_PHASE_{record.phase}"),
        progress=record.progress,
        error=record.error,
        warnings=record.warnings,
        # While it is measured, it may still be withdrawn.
        output=None if record.state in ACTIVE_EXPORTS else record.output,
        plan=record.plan,
        priority=record.priority,
        create_time=_timestamp(record.created_at),
        start_time=_timestamp(record.started_at),
        end_time=_timestamp(record.ended_at),
        expire_time=_timestamp(record.expires_at),
        update_time=_timestamp(record.updated_at),
    )
    if urls:
        _add_urls(export.output, urls)
    if record.state in ACTIVE_EXPORTS and estimate is not None:
        _add_estimate(export, estimate)
    if record.state is ExportState.PROCESSING and record.plan is not None:
        _add_live(export, record, record.plan, live)
    return export


def _add_urls(output: pb.Output, urls: Mapping[str, storage.SignDownloadResponse]) -> None:
    output.download_url = urls[""].url
    output.download_url_expire_time.CopyFrom(urls[""].expire_time)
    if POSTER in urls:
        output.poster.download_url = urls[POSTER].url
    if VTT in urls:
        output.sprites.vtt_url = urls[VTT].url
        sheets = (SHEETS % (sheet + 1) for sheet in range(output.sprites.sheet_count))
        output.sprites.sheet_urls.extend(urls[name].url for name in sheets)


def add_history(export: pb.Export, history: History) -> None:
    """Add to an export what has happened to it."""
    export.history.extend(map(_state_change, history.changes))
    export.history_omitted_count = history.omitted


def _state_change(change: StateChange) -> pb.StateChange:
    message = pb.StateChange(
        change_time=timestamp_of(change.changed_at),
        actor=change.actor or "",
        reason=change.reason or "",
        detail=change.detail or "",
        run_id=change.run_id or "",
    )
    before, after = change.from_state or "UNSPECIFIED", change.to_state
    if change.task_id is None:
        message.export.from_state = pb.ExportState.Value(f"EXPORT_STATE_{before}")
        message.export.to_state = pb.ExportState.Value(f"EXPORT_STATE_{after}")
    else:
        message.task.task_id = change.task_id
        message.task.kind = value_or_unspecified(pb.TaskKind, f"TASK_KIND_{change.kind}")
        message.task.from_state = value_or_unspecified(pb.TaskState, f"TASK_STATE_{before}")
        message.task.to_state = value_or_unspecified(pb.TaskState, f"TASK_STATE_{after}")
        message.task.attempt = change.attempt or 0
    return message


def _add_live(export: pb.Export, record: ExportRecord, plan: pb.Plan, live: Live | None) -> None:
    if live is not None and live.newest.task.frame_count:
        export.phase = phase_of(live.newest.task)
        # One that a replica of an older version has stored tells its plan alone.
        frames = max(1, record.frames_to_encode or plan.frame_count)
        done = min(frames, max(record.frames_encoded, live.frames_done))
        export.encode_status.CopyFrom(
            pb.EncodeStatus(
                frames_done=done,
                frame_count=frames,
                frames_per_second=live.frames_per_second,
                speed=live.speed,
                encoder_id=live.newest.encoder_id,
            )
        )
        export.progress = max(export.progress, 99.0 * done / _all_work(plan, frames))


def _all_work(plan: pb.Plan, frames: int) -> float:
    """Return the work on an export in frames of its pictures, of which there are so many."""
    work = frames * (1 + PARTS_SHARE) if plan.chunk_count else float(frames)
    if plan.measure_quality:
        rate = Fraction(plan.frame_rate.numerator, plan.frame_rate.denominator)
        work += compared_frames(plan.frame_count, rate)
    return work


def _add_estimate(export: pb.Export, estimate: Estimate) -> None:
    if export.state == pb.EXPORT_STATE_QUEUED:
        export.queue_position = estimate.position
    if estimate.seconds is not None:
        export.eta.CopyFrom(duration_of(Fraction(estimate.seconds).limit_denominator(1000)))


def _timestamp(time: datetime | None) -> Timestamp | None:
    return None if time is None else timestamp_of(time)
