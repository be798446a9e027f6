"""Simulated encoders: how long they take, what they leave, and what is made of their notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.scale.costs import Costs
from bench.scale.figures import figures_of, name_of, statements_of
from bench.scale.load import LONGEST_S, backlog, wishes
from bench.scale.measure import Scene, Seen
from bench.scale.pace import facts_of, ffmpeg_seconds
from bench.scale.source import SECONDS, source_info
from bench.scale.spans import (
    Span,
    Window,
    dispatch_times,
    efficiency,
    ffmpeg_share,
    finished,
    pauses,
    read_spans,
    summary,
)
from services.api.chunks import ChunkLengths, borders
from services.common.planner import plan_export
from services.encoder.commands.look import look_of, look_of_joined
from services.encoder.inspection.output_facts import check_output, check_soundtrack
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

RATE = pb.Rational(numerator=25, denominator=1)
WINDOW = Window(100.0, 110.0)


def video(frames: int, name: str = "tsk_1") -> task_pb2.Task:
    chunk = task_pb2.VideoChunk(
        frame_rate=RATE, start_frame=1000, end_frame=1000 + frames, width=1280, height=720
    )
    return task_pb2.Task(task_id=name, video=task_pb2.VideoTask(chunk=chunk))


def audio(frames: int) -> task_pb2.Task:
    spans = [task_pb2.FrameSpan(start_frame=0, end_frame=frames)]
    sound = task_pb2.Soundtrack(frame_rate=RATE, spans=spans)
    return task_pb2.Task(audio=task_pb2.AudioTask(soundtrack=sound))


def plan() -> pb.Plan:
    source = source_info(task_pb2.TaskSource(etag="e", size_bytes=1))
    return plan_export(source, [], pb.ExportSettings(resolution=pb.RESOLUTION_720P))


# How long and what


def test_chunk_of_eight_seconds_takes_four_to_eight_and_every_one_its_own_time() -> None:
    times = [ffmpeg_seconds(video(200, f"tsk_{number}")) for number in range(500)]
    assert 4 <= min(times) < 4.1
    assert 7.9 < max(times) <= 8
    assert sum(times) / len(times) == pytest.approx(6, rel=0.05)
    assert ffmpeg_seconds(video(200)) == ffmpeg_seconds(video(200))


def test_sound_and_joining_take_little_and_a_probe_nothing() -> None:
    assert ffmpeg_seconds(audio(25 * 600)) == pytest.approx(6)
    joined = task_pb2.Task(assemble=task_pb2.AssembleTask(plan=plan()))
    assert ffmpeg_seconds(joined) == pytest.approx(0.2 + 0.002 * SECONDS)
    assert ffmpeg_seconds(task_pb2.Task(probe=task_pb2.ProbeTask())) == 0


def test_what_is_left_passes_the_checks_of_the_encoder() -> None:
    wanted = plan()
    look = look_of(source_info(task_pb2.TaskSource()).video, wanted)
    check_output(facts_of(task_pb2.Task(whole=task_pb2.WholeTask(plan=wanted))), wanted, look)
    parts = [task_pb2.PartRef(frame_count=1)] * 7
    joined = facts_of(task_pb2.Task(assemble=task_pb2.AssembleTask(plan=wanted, video=parts)))
    check_output(joined, wanted, look_of_joined(wanted))
    assert joined.keyframes_decoded == 7
    chunk = pb.Plan(frame_count=200, frame_rate=RATE, width=1280, height=720)
    check_output(facts_of(video(200)), chunk, look)
    sound = facts_of(audio(250))
    assert sound.audio_duration is not None
    check_soundtrack(sound, sound.audio_duration)
    assert sound.audio_duration == 10


def test_source_is_cut_into_chunks_of_eight_seconds() -> None:
    lengths = ChunkLengths.of(8, 25)  # type: ignore[arg-type]
    places = borders(source_info(task_pb2.TaskSource()), 25, lengths)  # type: ignore[arg-type]
    assert len(places) == SECONDS / 8 - 1
    assert {place % 200 for place in places} == {0}


# The load


def test_no_two_exports_of_a_user_show_the_same() -> None:
    wanted = wishes(10, 60_000)
    assert sum(wish.end - wish.start for wish in wanted) >= 60_000
    assert {wish.user for wish in wanted} == {f"user-{number}" for number in range(1, 11)}
    ends: dict[str, int] = {}
    for wish in wanted:
        assert wish.start == ends.get(wish.user, 0)
        assert 0 < wish.end - wish.start <= LONGEST_S
        ends[wish.user] = wish.end
    assert max(ends.values()) <= SECONDS


def test_load_ends_with_the_source() -> None:
    wanted = wishes(2, 10 * SECONDS)
    assert sum(wish.end - wish.start for wish in wanted) == 2 * SECONDS


def test_backlog_has_a_user_for_every_two_hours_of_chunks() -> None:
    waiting = backlog(100_000)
    assert len(waiting) == len({wish.user for wish in waiting}) == 112
    assert not {wish.user for wish in waiting} & {wish.user for wish in wishes(200, 1000)}


# What is made of the notes


def span(slot: str, free: float, began: float | None, ended: float | None, ffmpeg: float) -> Span:
    return Span(slot, "cpu", f"{slot}@{free}", "video", free, began, ended, ffmpeg)


@pytest.fixture
def spans() -> list[Span]:
    """Two slots: one with a pause and a run that goes on, one with a run from before."""
    return [
        span("a", 99, 100, 104, 4),
        span("a", 104.5, 105, None, 10),
        span("b", 90, 95, 105, 8),
        span("b", 105, None, None, 0),
    ]


def test_efficiency_is_the_share_of_the_window_that_was_worked(spans: list[Span]) -> None:
    # 4 + 5 s of the one, 5 s of the other.
    assert efficiency(spans, 2, WINDOW) == pytest.approx(14 / 20)
    assert finished(spans, WINDOW) == 2


def test_ffmpeg_share_leaves_out_what_the_machine_made_longer(spans: list[Span]) -> None:
    # Of the run of 10 s half was before the window, and FFmpeg was to take 8.
    assert ffmpeg_share(spans, 2, WINDOW) == pytest.approx((4 + 5 + 4) / 20)


def test_dispatch_waits_from_when_both_the_slot_and_the_task_were_there(
    spans: list[Span],
) -> None:
    assert dispatch_times(spans, {}, WINDOW) == [0.5, 1]
    due = {"a@104.5": 104.75, "a@99": 50.0}
    assert dispatch_times(spans, due, WINDOW) == [0.25, 1]


def test_pause_is_from_one_work_of_a_slot_to_its_next(spans: list[Span]) -> None:
    assert pauses(spans, WINDOW) == [1]


def test_summary_of_nothing_meets_no_target() -> None:
    assert summary([]) == (float("inf"), float("inf"))
    assert summary([0.1] * 98 + [0.5] * 2) == (0.1, 0.5)


def test_notes_are_read_as_they_were_written(tmp_path: Path, spans: list[Span]) -> None:
    files = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    for path, part in zip(files, (spans[2:], spans[:2]), strict=True):
        path.write_text("".join(item.to_json() + "\n" for item in part))
    assert [item.to_json() for item in read_spans(files)] == [item.to_json() for item in spans]


def costs(cpu: float, calls: int) -> Costs:
    return Costs({"api": cpu}, 3 * cpu, cpu / 2, calls, 10, {"SELECT 1": (calls, cpu)})


@pytest.fixture
def seen(spans: list[Span]) -> Seen:
    spent = costs(2.5, 14).since(costs(0.5, 4))
    return Seen(Scene(64), WINDOW, spans, {}, spent, 3, 4, 5)


def test_costs_are_told_per_task(seen: Seen) -> None:
    figures = {figure.name: figure.value for figure in figures_of(seen)}
    # Two tasks ended.
    assert figures["scale_64.cpu.api"] == 1000
    assert figures["scale_64.sql"] == 500
    assert figures["scale_64.statements"] == 5
    assert figures["scale_64.cores"] == 0.2
    assert figures["scale_64.cores_of_others"] == 0.6
    assert "      5.00  1000.000  200.000  SELECT 1" in statements_of(seen)


def test_sounds_and_assemblies_are_no_work_of_the_slots_for_pictures(seen: Seen) -> None:
    joining = Span("a/mux", "mux", "tsk_9", "assemble", 90.0, 101.0, 103.0, 1.0)
    due = {"tsk_9": 100.9}
    both = replace(seen, spans=[*seen.spans, joining], due=due)
    figures = {figure.name: figure for figure in figures_of(both)}
    assert figures["scale_64"].value == figures_of(seen)[0].value
    assert figures["scale_64.tasks"].value == pytest.approx(0.3)
    assert figures["scale_64.mux_dispatch_p99"].value == pytest.approx(0.1)
    assert figures["scale_64.dispatch_p99"].value == 1
    assert "scale_64.mux_dispatch_p99" not in {figure.name for figure in figures_of(seen)}


def test_targets_are_those_of_their_slots(seen: Seen) -> None:
    by_name = {figure.name: figure for figure in figures_of(seen)}
    assert (by_name["scale_64"].target, by_name["scale_64"].met) == ("≥ 0.92", False)
    assert by_name["scale_64.dispatch_p99"].met is False
    few = figures_of(replace(seen, scene=Scene(2)))
    assert (few[0].name, few[0].value, few[0].met) == ("scale_2", pytest.approx(0.7 * 2 / 2), None)


def test_scenes_that_differ_have_figures_of_their_own_names() -> None:
    scene = Scene(200, replicas=2, storage_aside=True, backlog=1000)
    assert name_of(scene) == "scale_200_replicas_2_storage_aside_backlog_1000"
    assert name_of(Scene(200)) == "scale_200"
