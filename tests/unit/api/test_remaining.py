"""What exports still need, in seconds of slots."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from services.api.encode_kind import EncodeKind
from services.api.eta import Backlog, LaneWork, Tail
from services.api.progress import Pace
from services.api.remaining import (
    HANDOVER_SECONDS,
    OVERHEAD_SECONDS,
    PROBE_SECONDS,
    TRIAL_SECONDS,
    backlog_of,
    seconds_left,
    speed_of,
)
from services.api.states import ExportState
from services.api.store.backlog import DueTasks, InFlightTask, PlanSummary, Speed, UnfinishedExport
from services.common.planner import DEFAULT_PIXELS_PER_SECOND
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb

OVERHEAD = 1.0
# What a slot is taken for by a task, beside its frames.
EACH = OVERHEAD + HANDOVER_SECONDS
# Frames per second, and seconds of a task beside its frames.
SPEED = Speed(50.0, OVERHEAD)
CREATED = datetime(2026, 3, 4, tzinfo=UTC)
MEDIUM = EncodeKind(pb.ENCODER_FAMILY_CPU, pb.RESOLUTION_720P, pb.QUALITY_MEDIUM)
NVENC = replace(MEDIUM, family=pb.ENCODER_FAMILY_NVENC)
LOW = replace(MEDIUM, quality=pb.QUALITY_LOW)


PLAN = PlanSummary(MEDIUM.quality, width=1280, height=720, frame_count=500, chunk_count=0)
LONG = replace(PLAN, frame_count=2000, chunk_count=3)


def export(**changes: Any) -> UnfinishedExport:
    """Return an export of 500 frames that waits as a whole, but for what is changed."""
    values: dict[str, Any] = {
        "id": "exp_1",
        "user_id": "anna",
        "state": ExportState.QUEUED,
        "priority": 3,
        "created_at": CREATED,
        "pictures_made": 0,
        "due": (due(1, 500, 500),),
        "in_flight": (),
        "plan": PLAN,
    }
    return UnfinishedExport(**{**values, **changes})


def due(
    tasks: int, frames: int, longest: int, lane: Lane = Lane.CPU, kind: str = "VIDEO"
) -> DueTasks:
    return DueTasks(lane, tasks, frames, longest, (kind,))


def task(
    frames: int,
    *,
    done: int = 0,
    running: bool = True,
    kind: str = "VIDEO",
    lane: Lane = Lane.CPU,
    sent_at: float = 0.0,
) -> InFlightTask:
    return InFlightTask(f"tsk_{frames}", kind, lane, running, frames, done, sent_at)


def left(of: UnfinishedExport, **paces: Pace) -> Backlog:
    found = backlog_of(of, {MEDIUM: SPEED}, paces.get)
    assert found is not None
    return found


def test_speed_is_the_measured_one_of_the_kind() -> None:
    low = replace(PLAN, quality=pb.QUALITY_LOW)
    speeds = {MEDIUM: Speed(40, 1), NVENC: Speed(400, 2), LOW: Speed(60, 3)}
    assert speed_of(Lane.CPU, PLAN, speeds) == Speed(40, 1)
    assert speed_of(Lane.GPU, PLAN, speeds) == Speed(400, 2)
    assert speed_of(Lane.CPU, low, speeds) == Speed(60, 3)
    # Sounds and assemblies, whatever makes the pictures.
    assert speed_of(Lane.MUX, PLAN, speeds) == Speed(40, 1)


def test_speed_is_assumed_by_the_pixels_where_none_is_measured() -> None:
    assumed = Speed(DEFAULT_PIXELS_PER_SECOND / (1280 * 720), OVERHEAD_SECONDS)
    assert speed_of(Lane.CPU, PLAN, {NVENC: Speed(400, 2)}) == assumed


def test_codecs_are_of_different_speed() -> None:
    av1, hevc = pb.VIDEO_CODEC_AV1, pb.VIDEO_CODEC_HEVC
    speeds = {MEDIUM: Speed(40, 1), replace(MEDIUM, codec=av1): Speed(30, 2)}
    assert speed_of(Lane.CPU, replace(PLAN, video_codec=av1), speeds) == Speed(30, 2)
    assumed = speed_of(Lane.CPU, replace(PLAN, video_codec=hevc), speeds).frames_per_second
    assert assumed < DEFAULT_PIXELS_PER_SECOND / (1280 * 720)
    # Sound alone is counted in frames of pictures, as H.264 makes them.
    sound = PlanSummary(pb.QUALITY_UNSPECIFIED, 0, 0, frame_count=5000, chunk_count=0)
    assert speed_of(Lane.CPU, sound, speeds) == Speed(40, 1)


def test_whole_export_that_waits() -> None:
    found = left(export())
    assert (found.export_id, found.user_id, found.priority) == ("exp_1", "anna", 3)
    assert found.order == CREATED.timestamp()
    assert (found.lane, found.tails) == (Lane.CPU, ())
    each = 500 / 50 + EACH
    assert found.work == {Lane.CPU: LaneWork(waiting=1, work=each, longest=each)}


def test_export_in_parts_is_assembled_at_the_end() -> None:
    parts = (due(1, 100, 100, Lane.MUX), due(4, 2000, 800))
    found = left(export(due=parts, plan=LONG))
    assert found.lane is Lane.CPU
    assert found.work == {
        Lane.CPU: LaneWork(waiting=4, work=2000 / 50 + 4 * EACH, longest=800 / 50 + EACH),
        Lane.MUX: LaneWork(waiting=1, work=100 / 50 + EACH, longest=100 / 50 + EACH),
    }
    # A fiftieth of the frames.
    assert found.tails == (Tail(Lane.MUX, 40 / 50 + EACH),)


def test_assembly_that_is_due_or_sent_is_not_counted_twice() -> None:
    waits = export(due=(due(1, 40, 40, Lane.MUX, "ASSEMBLE"),), plan=LONG)
    each = 40 / 50 + EACH
    assert left(waits).work == {Lane.MUX: LaneWork(waiting=1, work=each, longest=each)}
    assert (left(waits).lane, left(waits).tails) == (Lane.MUX, ())
    sent = task(40, running=False, kind="ASSEMBLE", lane=Lane.MUX)
    found = left(export(due=(), in_flight=(sent,), plan=LONG))
    assert found.work == {Lane.MUX: LaneWork(sent=((0.0, each),))}
    assert found.tails == ()


def test_output_is_compared_at_the_very_end() -> None:
    compared = replace(LONG, compared_frames=1500)
    comparing = Tail(Lane.CPU, 1500 / 50 + EACH, needed=False)
    found = left(export(due=(due(4, 2000, 800),), plan=compared))
    assert found.tails == (Tail(Lane.MUX, 40 / 50 + EACH), comparing)
    assembly = export(due=(due(1, 40, 40, Lane.MUX, "ASSEMBLE"),), plan=compared)
    assert left(assembly).tails == (comparing,)
    whole = export(plan=replace(PLAN, compared_frames=1500))
    assert left(whole).tails == (comparing,)


def test_comparison_that_is_due_or_sent_is_not_counted_twice() -> None:
    compared = replace(LONG, compared_frames=1500)
    waits = left(export(due=(due(1, 1500, 1500, kind="MEASURE"),), plan=compared))
    assert (waits.work[Lane.CPU].waiting, waits.tails) == (1, ())
    sent = left(export(due=(), in_flight=(task(1500, kind="MEASURE"),), plan=compared))
    assert (len(sent.work[Lane.CPU].running), sent.tails) == (1, ())


def test_tasks_in_flight_are_told_apart() -> None:
    in_flight = (task(700, running=False, sent_at=8.5), task(100, done=50))
    found = left(export(due=(due(2, 600, 400),), in_flight=in_flight)).work[Lane.CPU]
    assert (found.waiting, found.work) == (2, 600 / 50 + 2 * EACH)
    assert found.longest == 400 / 50 + EACH
    assert found.sent == ((8.5, 700 / 50 + EACH),)
    assert found.running == (50 / 50 + OVERHEAD,)


def test_export_has_begun_when_pictures_of_it_are_made() -> None:
    assert not left(export()).begun
    # Only its probe has run, or its sound was made.
    assert not left(export(state=ExportState.PROCESSING)).begun
    assert left(export(state=ExportState.PROCESSING, pictures_made=1)).begun
    # Queued again after it had failed.
    assert not left(export(pictures_made=50)).begun


def test_export_without_tasks_is_left_out() -> None:
    assert backlog_of(export(due=()), {}, {}.get) is None


def test_probe_takes_its_time_whatever_the_source_is() -> None:
    found = left(export(due=(due(1, 0, 0, Lane.PROBE),), plan=None))
    each = PROBE_SECONDS + HANDOVER_SECONDS
    work = LaneWork(waiting=1, work=each, longest=each)
    assert (found.lane, found.work) == (Lane.PROBE, {Lane.PROBE: work})


# Runs


def test_run_that_was_not_heard_of_needs_what_its_row_lacks() -> None:
    assert seconds_left(task(500, done=100), SPEED, None) == 8 + 1
    assert seconds_left(task(500, done=900), SPEED, None) == 1


def test_run_before_its_first_frame_needs_the_usual_time_less_what_has_passed() -> None:
    assert seconds_left(task(500), SPEED, Pace(age=3, frame_count=500)) == 8
    assert seconds_left(task(500), SPEED, Pace(age=30, frame_count=500)) == 1


def test_run_that_tells_no_frames_needs_the_usual_time_less_what_has_passed() -> None:
    assert seconds_left(task(40, kind="ASSEMBLE"), Speed(20, 1), Pace(age=0.5)) == 2.5
    assert seconds_left(task(40, kind="ASSEMBLE"), Speed(20, 1), Pace(age=9)) == 0


def test_run_is_first_judged_by_its_kind_and_then_by_its_own_pace() -> None:
    def at(seconds: float, fps: float = 100.0) -> float:
        frames = round(seconds * fps)
        pace = Pace(9, 10_000, 1000, frames, seconds)
        return 9000 / (seconds_left(task(10_000), SPEED, pace) - 1)

    assert at(0) == pytest.approx(50)
    assert at(TRIAL_SECONDS) == pytest.approx(75)
    assert at(30 * TRIAL_SECONDS) == pytest.approx(100, rel=0.02)


def test_run_after_its_last_frame_is_only_to_be_stored() -> None:
    assert seconds_left(task(500), SPEED, Pace(20, 500, 500, 450, 9)) == 1


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.25, 2.0])
@pytest.mark.parametrize("length", [20.0, 60.0])
def test_half_way_an_encode_is_told_within_15_percent(factor: float, length: float) -> None:
    # It starts up for 2 s, and is faster or slower than its kind.
    fps = 30 * factor
    frames = round((length - 2) * fps)
    half = frames // 2
    pace = Pace(2 + half / fps, frames, half, half - 5, (half - 5) / fps)
    really = (frames - half) / fps + OVERHEAD
    assert seconds_left(task(frames), Speed(30, OVERHEAD), pace) == pytest.approx(really, rel=0.15)
