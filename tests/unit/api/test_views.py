"""Exports as callers see them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from api_records import CREATED, EXPORT, PLAN, record
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.api.forecast import Estimate
from services.api.progress import Live, phase_of
from services.api.states import TERMINAL_EXPORTS, ExportState
from services.api.store.history import History, StateChange
from services.api.views import PARTS_SHARE, add_history, to_export
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2


def live(frames_done: int, *, fps: float = 50, phase: str = "ENCODING") -> Live:
    newest = task_pb2.TaskProgress(
        task=pb.RunningTask(
            export_id=EXPORT,
            phase=pb.ExportPhase.Value(f"EXPORT_PHASE_{phase}"),
            frames_done=frames_done,
            frame_count=500,
            frames_per_second=fps,
            speed=2.0,
        ),
        encoder_id="encoder-1",
    )
    return Live(newest, min(500, frames_done), fps, 2.0)


def processing(**changes: object) -> pb.Export:
    word, estimate = changes.pop("live", None), changes.pop("estimate", None)
    base = {"state": ExportState.PROCESSING, "phase": "ENCODING", "plan": PLAN}
    return to_export(record(**{**base, **changes}), word, estimate)  # type: ignore[arg-type]


def test_export_of_an_older_replica_has_the_frames_of_its_plan() -> None:
    export = processing(live=live(100), frames_to_encode=0)
    assert export.encode_status.frame_count == PLAN.frame_count
    assert export.progress < 50


def test_export_shows_the_row() -> None:
    error = pb.ExportError(code="INVALID_SOURCE", message="Not a video.")
    warning = pb.ExportWarning(code="GPU_FALLBACK", message="The CPU encodes.")
    export = to_export(
        record(
            state=ExportState.FAILED,
            phase="UNSPECIFIED",
            progress=12.5,
            priority=-7,
            segments=(pb.Segment(end_time=Duration(seconds=3)),),
            settings=pb.ExportSettings(quality=pb.QUALITY_LOW),
            plan=PLAN,
            error=error,
            warnings=(warning,),
            started_at=CREATED + timedelta(seconds=1),
            ended_at=CREATED + timedelta(seconds=2),
            updated_at=CREATED + timedelta(seconds=3),
        )
    )
    created = int(CREATED.timestamp())
    assert export == pb.Export(
        id=EXPORT,
        user_id="anna",
        source=pb.Source(video_id="vid_" + "0" * 32),
        segments=[pb.Segment(end_time=Duration(seconds=3))],
        settings=pb.ExportSettings(quality=pb.QUALITY_LOW),
        state=pb.EXPORT_STATE_FAILED,
        phase=pb.EXPORT_PHASE_UNSPECIFIED,
        progress=12.5,
        priority=-7,
        plan=PLAN,
        error=error,
        warnings=[warning],
        create_time=Timestamp(seconds=created),
        start_time=Timestamp(seconds=created + 1),
        end_time=Timestamp(seconds=created + 2),
        update_time=Timestamp(seconds=created + 3),
    )


@pytest.mark.parametrize("state", ExportState)
def test_every_state_is_shown_by_its_name(state: ExportState) -> None:
    assert to_export(record(state=state)).state == pb.ExportState.Value(f"EXPORT_STATE_{state}")


def test_phase_of_a_newer_version_is_not_told() -> None:
    assert processing(phase="POLISHING").phase == pb.EXPORT_PHASE_UNSPECIFIED
    # Nor does one that an encoder tells keep anything from being told.
    word = pb.RunningTask(phase=99)  # type: ignore[arg-type]
    assert phase_of(word) == pb.EXPORT_PHASE_ENCODING


def test_history_of_a_newer_version_is_told_as_far_as_it_is_known() -> None:
    export = processing()
    change = StateChange(
        *(CREATED, "tsk_1", "POLISH", "WAITING", "PAUSED"),
        *(1, "dispatcher", "SENT", None, None),
    )
    add_history(export, History((change,), 0))
    [told] = export.history
    assert (told.task.kind, told.task.to_state) == (0, 0)
    assert told.task.from_state == pb.TASK_STATE_WAITING


def test_queued_export_shows_what_to_expect() -> None:
    export = to_export(record(plan=PLAN), None, Estimate(12.25, 4))
    assert export.queue_position == 4
    assert export.eta == Duration(seconds=12, nanos=250_000_000)
    assert not export.HasField("encode_status")


def test_export_without_an_expected_time_shows_its_position_alone() -> None:
    export = to_export(record(), None, Estimate(None, 4))
    assert export.queue_position == 4
    assert not export.HasField("eta")


def test_export_of_which_nothing_is_expected_shows_nothing() -> None:
    export = to_export(record(plan=PLAN))
    assert export.queue_position == 0
    assert not export.HasField("eta")


@pytest.mark.parametrize("state", TERMINAL_EXPORTS)
def test_nothing_is_expected_of_an_export_that_has_ended(state: ExportState) -> None:
    export = to_export(record(state=state, plan=PLAN), None, Estimate(7.0, 3))
    assert export.queue_position == 0
    assert not export.HasField("eta")


def test_export_that_is_no_longer_queued_has_no_position() -> None:
    export = processing(estimate=Estimate(7.0, 3))
    assert export.queue_position == 0
    assert export.eta == Duration(seconds=7)


def test_completed_export_shows_its_output_with_the_fresh_url() -> None:
    url = storage.SignDownloadResponse(url="https://s3/x?sig", expire_time=Timestamp(seconds=9))
    export = to_export(
        record(
            state=ExportState.COMPLETED,
            phase="UNSPECIFIED",
            plan=PLAN,
            progress=100.0,
            output=pb.Output(size_bytes=5, frame_count=500),
            output_run_id="run_1",
            expires_at=CREATED + timedelta(days=30),
        ),
        urls={"": url},
    )
    assert export.output.size_bytes == 5
    assert export.output.download_url == "https://s3/x?sig"
    assert export.output.download_url_expire_time == Timestamp(seconds=9)
    assert export.expire_time.ToDatetime(tzinfo=CREATED.tzinfo) == CREATED + timedelta(days=30)
    assert not export.HasField("eta")


def test_record_is_not_changed_by_its_view() -> None:
    output = pb.Output(size_bytes=5)
    url = storage.SignDownloadResponse(url="https://s3/x?sig")
    to_export(record(state=ExportState.COMPLETED, output=output), urls={"": url})
    assert output == pb.Output(size_bytes=5)


def test_running_export_shows_what_its_encoder_says() -> None:
    export = processing(progress=10.0, live=live(250))
    assert export.phase == pb.EXPORT_PHASE_ENCODING
    assert export.progress == pytest.approx(99.0 / 2)
    assert export.encode_status == pb.EncodeStatus(
        frames_done=250, frame_count=500, frames_per_second=50, speed=2, encoder_id="encoder-1"
    )


def test_progress_is_never_less_than_the_row_says() -> None:
    assert processing(progress=80.0, live=live(10)).progress == 80.0


def test_progress_is_never_less_than_an_earlier_run_had_reached() -> None:
    export = processing(progress=10.0, live=Live(live(5).newest, 250, 50, 2))
    assert export.progress == pytest.approx(49.5)
    assert export.encode_status.frames_done == 250


def test_progress_of_the_last_frame_leaves_a_percent_for_the_stored_file() -> None:
    assert processing(live=live(500)).progress == 99.0
    assert processing(live=live(900)).progress == 99.0


def test_encoder_that_finishes_shows_its_phase() -> None:
    export = processing(live=live(500, fps=0, phase="UPLOADING"))
    assert export.phase == pb.EXPORT_PHASE_UPLOADING


def test_probing_export_shows_neither_eta_nor_figures() -> None:
    word = live(0)
    word.newest.task.frame_count = 0
    export = to_export(record(state=ExportState.PROCESSING, phase="PROBING"), word)
    assert export.phase == pb.EXPORT_PHASE_PROBING
    assert not export.HasField("eta")
    assert not export.HasField("encode_status")


def in_parts(**changes: object) -> pb.Export:
    plan = pb.Plan()
    plan.CopyFrom(PLAN)
    plan.chunk_count = 3
    return processing(plan=plan, **changes)


def test_export_in_parts_shows_what_all_its_encoders_do() -> None:
    export = in_parts(
        frames_to_encode=400, frames_encoded=100, live=Live(live(20).newest, 80, 90, 3)
    )
    assert export.encode_status == pb.EncodeStatus(
        # More was done than this replica has heard of.
        frames_done=100,
        frame_count=400,
        frames_per_second=90,
        speed=3,
        encoder_id="encoder-1",
    )
    assert export.progress == pytest.approx(99 / (1 + PARTS_SHARE) / 4)


def test_pictures_of_an_export_in_parts_are_not_all_of_its_work() -> None:
    export = in_parts(frames_encoded=500, live=live(500))
    assert 90 < export.progress < 95


def test_comparison_of_the_output_is_left_when_all_pictures_are_made() -> None:
    plan = pb.Plan(measure_quality=True)
    plan.MergeFrom(PLAN)
    # All of its 500 frames are compared.
    assert processing(plan=plan, live=live(500)).progress == pytest.approx(99 / 2)
    long = pb.Plan(frame_count=500 * 60, chunk_count=3)
    long.MergeFrom(plan)
    long.frame_count = 500 * 60
    made = processing(plan=long, frames_to_encode=500 * 60, frames_encoded=500 * 60, live=live(500))
    # Of an hour as much as of a minute.
    assert made.progress == pytest.approx(99 / (1 + PARTS_SHARE + 1500 / 30_000))


@pytest.mark.parametrize(
    "state", [ExportState.CANCELLED, ExportState.FAILED, ExportState.QUEUED, ExportState.COMPLETED]
)
def test_word_of_a_run_that_is_no_longer_wanted_is_not_shown(state: ExportState) -> None:
    export = to_export(record(state=state, phase="UNSPECIFIED", plan=PLAN), live(250))
    assert not export.HasField("encode_status")
    assert not export.HasField("eta")
    assert export.progress == 0
