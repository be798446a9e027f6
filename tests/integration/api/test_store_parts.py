"""Exports in parts: stored, made, joined, reused, made anew."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from fractions import Fraction

import pytest
from api_long import CPU, GPU, LONG_INFO, TOOLS, LongCase, long_export, marked, seconds
from api_rig import NO_QUOTAS, OUTPUT, Rig

from services.api.planning import order_of
from services.api.states import ExportState
from services.api.store.records import Planned
from services.api.store.reuse import PartName
from services.api.store.tasks import Applied
from services.api.work import work_in_parts
from services.common.damage import damage_warning, time_range
from services.common.errors import DomainError, Reason
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

GPU_FALLBACK = pb.ExportWarning(code="GPU_FALLBACK", message="The GPU could not do it.")
# The whole source, its beginning and another piece; what both show is made once.
FIRST = (seconds(0, 40), seconds(50, 90))


async def keys_known(rig: Rig) -> int:
    return int(await rig.value("SELECT count(*) FROM cached_parts"))


# Stored


async def test_assembly_waits_and_every_part_is_due(rig: Rig) -> None:
    case = await long_export(rig)
    assert [task.kind for task in case.work] == [*["VIDEO"] * 12, "AUDIO", "ASSEMBLE"]
    assert await case.states() == [*["PENDING"] * 13, "WAITING"]
    record = await case.now()
    assert (record.frames_to_encode, record.frames_encoded) == (2400, 0)
    sent = await rig.dispatch()
    assert len(sent) == 13
    assert case.assembly.id not in sent


async def test_range_that_is_shown_twice_is_made_once(rig: Rig) -> None:
    case = await long_export(rig, seconds(0, 40), seconds(0, 40))
    message = task_pb2.Task.FromString(case.assembly.message)
    assert (len(case.video), len(message.assemble.video)) == (5, 10)
    assert (await case.now()).frames_to_encode == 1000


async def test_longest_chunks_are_sent_out_first(rig: Rig) -> None:
    case = await long_export(rig, seconds(0, 51.6), seconds(60, 95))
    frames = {task.id: task.frames for task in case.work}
    sent = [frames[task_id] for task_id in await rig.dispatch(Lane.CPU)]
    assert sent == sorted(sent, reverse=True)
    assert len(set(sent)) > 2


# Made and joined


async def test_last_part_lets_the_assembly_begin(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.dispatch()
    for task in case.work[:-2]:
        assert (await case.made(task)).changed
    assert await case.states() == [*["SUCCEEDED"] * 12, "DISPATCHED", "WAITING"]
    assert await rig.dispatch() == []
    await case.made(case.audio)
    assert await rig.dispatch() == [case.assembly.id]
    assert (await case.joined("run_1")).changed
    record = await case.now()
    assert (record.state, record.progress) == (ExportState.COMPLETED, 100)
    assert record.output is not None
    assert (record.output.reused_frame_count, record.output.reused_share) == (0, 0)
    assert record.output_run_id == "run_1"
    assert await rig.deletions() == [], "parts are nobody's garbage"


async def test_progress_follows_the_parts(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.dispatch()
    for task in case.video[:6]:
        await case.made(task)
    record = await case.now()
    frames = sum(task.frames for task in case.video[:6])
    assert (record.state, record.phase) == (ExportState.PROCESSING, "ENCODING")
    assert record.frames_encoded == frames
    whole = sum(task.frames for task in case.work)
    assert record.progress == pytest.approx(99 * frames / whole)


async def test_assembly_shows_as_its_own_phase(rig: Rig) -> None:
    case = await long_export(rig)
    await case.ready_to_join()
    await case.begun(case.assembly, "run_1")
    assert (await case.now()).phase == "ASSEMBLING"


async def test_part_delivered_again_changes_nothing(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.dispatch()
    await case.made(case.video[0])
    before = await case.now()
    assert await case.made(case.video[0]) == Applied()
    assert await case.now() == before


async def test_part_of_an_overtaken_run_is_as_good_and_the_other_is_stopped(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.dispatch()
    await case.begun(case.video[0], "run_a")
    await case.begun(case.video[0], "run_b")
    applied = await case.made(case.video[0])
    assert set(applied.stop_runs) == {"run_a", "run_b"}


async def test_part_of_a_cancelled_export_is_kept_for_later_ones(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.dispatch()
    _, running = await rig.exports.cancel(case.id, "anna")
    assert len(running) == 13
    assert await case.made(case.video[0]) == Applied()
    assert await case.states() == ["CANCELLED"] * 14
    assert (await long_export(rig)).video[0].made


async def test_run_that_begins_after_the_end_counts_as_ended_and_its_part_is_kept(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.dispatch()
    await rig.exports.cancel(case.id, "anna")
    # It hears that it is to stop, and says no more.
    for task in (case.audio, case.video[0]):
        assert (await case.begun(task, f"run_{task.kind}")).stop_runs == (f"run_{task.kind}",)
    rows = await rig.sql("SELECT outcome, ended_at FROM runs")
    assert [row["outcome"] for row in rows] == ["DISCARDED"] * 2
    assert all(row["ended_at"] for row in rows)
    assert await rig.deletions() == []
    # Unless it has just stored its part: nothing is wrong with that.
    part = task_pb2.StoredPart(key=case.video[0].part_key or b"", size_bytes=9)
    done = task_pb2.TaskSucceeded(part=part)
    event = case.event("run_VIDEO", task=case.video[0].id, succeeded=done)
    assert await rig.tasks.part_succeeded(event) == Applied()
    assert (await long_export(rig)).video[0].made


async def test_speed_of_a_chunk_counts(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.dispatch()
    await case.made(case.video[0], fps=80)
    pictures = pb.Plan(width=1280, height=720, quality=pb.QUALITY_MEDIUM)
    assert await rig.reuse.speed(pb.ENCODER_FAMILY_CPU, pictures) == 80
    # A source's own size goes with the nearest that has a name.
    pictures.width = 1400
    assert await rig.reuse.speed(pb.ENCODER_FAMILY_CPU, pictures) == pytest.approx(80 * 1280 / 1400)


async def test_part_stored_under_another_key_is_joined_from_there(rig: Rig) -> None:
    # By an encoder with another build of FFmpeg than most.
    case = await long_export(rig)
    await rig.dispatch()
    await case.made(case.video[2], key=b"other" * 6 + b"xx")
    await case.made(case.audio, key=b"sound" * 6 + b"xx")
    message = await rig.value("SELECT message FROM tasks WHERE id = %s", case.assembly.id)
    assembly = task_pb2.Task.FromString(message).assemble
    assert assembly.video[2].key == b"other" * 6 + b"xx"
    assert assembly.audio_key == b"sound" * 6 + b"xx"
    assert assembly.video[1].key == case.video[1].part_key


# Reused


async def test_edit_makes_only_what_changed(rig: Rig) -> None:
    first = await long_export(rig, *FIRST)
    await first.finish()
    edited = await long_export(rig, seconds(0, 40), seconds(50, 86))
    made = [task for task in edited.work if not task.made]
    assert [task.kind for task in made] == ["VIDEO", "AUDIO", "ASSEMBLE"]
    record = await edited.now()
    assert record.frames_to_encode == made[0].frames
    record = await edited.finish()
    assert record.output is not None
    frames = edited.planned.plan.frame_count
    assert record.output.reused_frame_count == frames - made[0].frames
    assert record.output.reused_share == pytest.approx(1 - made[0].frames / frames)


async def test_export_of_what_is_all_there_goes_on_to_its_assembly(rig: Rig) -> None:
    await (await long_export(rig, *FIRST)).finish()
    again = await long_export(rig, *FIRST)
    assert await rig.dispatch() == [again.assembly.id]
    record = await again.now()
    assert (record.frames_to_encode, record.progress) == (0, 0)
    await again.joined()
    record = await again.now()
    assert record.output is not None
    assert record.output.reused_share == 1


async def test_frames_shown_twice_count_twice_as_reused(rig: Rig) -> None:
    await (await long_export(rig, seconds(0, 80))).finish()
    twice = await long_export(rig, seconds(0, 40), seconds(0, 40))
    record = await twice.finish()
    assert record.output is not None
    assert record.output.reused_frame_count == 2000


async def test_part_that_an_encoder_found_counts_as_reused_where_another_export_made_it(
    rig: Rig,
) -> None:
    # Both were planned before either was made.
    first, second = await long_export(rig), await long_export(rig)
    await rig.dispatch()
    await first.made(first.video[0])
    await second.made(second.video[0], found=True)
    await second.made(second.video[1], found=True)
    reused = "SELECT reused FROM tasks WHERE id = %s"
    assert await rig.value(reused, second.video[0].id)
    assert not await rig.value(reused, second.video[1].id), "nobody else is known to have made it"


async def test_other_users_parts_are_not_found(rig: Rig) -> None:
    await (await long_export(rig, user="ben")).finish()
    case = await long_export(rig)
    keys = [task.part_key for task in case.work if task.part_key is not None]
    assert await rig.reuse.makers("anna", keys) == {}


async def test_part_that_storage_may_soon_remove_is_not_planned_with(rig: Rig) -> None:
    await (await long_export(rig)).finish()
    await rig.sql("UPDATE cached_parts SET stored_at = now() - interval '6 days 1 minute'")
    assert not any(task.made for task in (await long_export(rig)).work)
    await rig.reuse.forget_old()
    assert await keys_known(rig) == 13
    await rig.sql("UPDATE cached_parts SET stored_at = now() - interval '7 days 1 minute'")
    await rig.reuse.forget_old()
    assert await keys_known(rig) == 0


async def test_parts_that_are_used_are_renewed_once_a_day(rig: Rig) -> None:
    await (await long_export(rig)).finish()
    renewed: list[PartName] = []

    async def renew(part: PartName) -> None:
        renewed.append(part)

    await long_export(rig)
    assert await rig.reuse.renew_parts(renew) == 0
    await rig.sql("UPDATE cached_parts SET stored_at = now() - interval '25 hours'")
    case = await long_export(rig, seconds(0, 40))
    assert await rig.reuse.renew_parts(renew) == 5
    assert {part.key for part in renewed} == {task.part_key for task in case.video}
    assert {part.user_id for part in renewed} == {"anna"}
    assert await rig.reuse.renew_parts(renew) == 0
    fresh = "SELECT count(*) FROM cached_parts WHERE stored_at > now() - interval '1 hour'"
    assert await rig.value(fresh) == 5


async def test_part_that_is_gone_when_it_is_renewed_is_forgotten(rig: Rig) -> None:
    await (await long_export(rig)).finish()
    await rig.sql("UPDATE cached_parts SET renew = true")

    async def gone(part: PartName) -> None:
        raise DomainError(Reason.OBJECT_NOT_FOUND, "Gone.")

    assert await rig.reuse.renew_parts(gone) == 13
    assert await keys_known(rig) == 0


async def test_part_is_due_again_when_storage_is_away(rig: Rig) -> None:
    await (await long_export(rig)).finish()
    await rig.sql("UPDATE cached_parts SET renew = true")

    async def away(part: PartName) -> None:
        raise DomainError(Reason.STORAGE_UNAVAILABLE, "Away.")

    with pytest.raises(DomainError):
        await rig.reuse.renew_parts(away)
    assert await rig.value("SELECT count(*) FROM cached_parts WHERE renew") == 13


async def test_part_that_cannot_be_renewed_does_not_hold_up_the_others(rig: Rig) -> None:
    await (await long_export(rig)).finish()
    await rig.sql("UPDATE cached_parts SET renew = true, stored_at = now() - interval '2 days'")
    tried: list[PartName] = []

    async def renew(part: PartName) -> None:
        tried.append(part)
        if len(tried) == 1:
            raise DomainError(Reason.INTERNAL, "It is cursed.")

    assert await rig.reuse.renew_parts(renew) == 13
    assert len(tried) == 13
    assert await rig.reuse.renew_parts(renew) == 0
    aged = "SELECT key FROM cached_parts WHERE stored_at < now() - interval '1 day'"
    assert await rig.value(aged) == tried[0].key


async def test_replicas_renew_different_parts(rig: Rig, replica: Rig) -> None:
    await (await long_export(rig)).finish()
    await rig.sql("UPDATE cached_parts SET renew = true")
    renewed: list[bytes] = []

    async def renew(part: PartName) -> None:
        renewed.append(part.key)
        await asyncio.sleep(0.01)

    await asyncio.gather(rig.reuse.renew_parts(renew), replica.reuse.renew_parts(renew))
    assert len(renewed) == len(set(renewed)) == 13


async def test_output_of_a_part_is_no_output(rig: Rig) -> None:
    # An encoder from before exports in parts takes every task for a whole one.
    case = await long_export(rig)
    await rig.dispatch()
    done = task_pb2.TaskSucceeded(output=OUTPUT)
    event = case.event("run_old", task=case.video[0].id, succeeded=done)
    applied = await rig.tasks.output_succeeded(event, retention=timedelta(days=1))
    assert applied == Applied()
    assert (await case.now()).state is not ExportState.COMPLETED
    assert await rig.deletions() == [("anna", "run_old")]


# A damaged source


def damage(*tenths: tuple[int, int]) -> pb.ExportWarning:
    return damage_warning(time_range(Fraction(a, 10), Fraction(b, 10)) for a, b in tenths)


async def test_damage_that_parts_tell_of_is_told_together(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.dispatch()
    for number, task in enumerate(case.work[:-1]):
        told = {0: [damage((10, 20))], 5: [damage((400, 401))], 12: [damage((15, 30))]}
        await case.made(
            task, key=b"tolerant" * 4 if number == 5 else None, warnings=told.get(number, [])
        )
    assert await rig.dispatch() == [case.assembly.id]
    await case.joined("run_1")
    record = await case.now()
    assert record.warnings == (damage((10, 30), (400, 401)),)
    message = task_pb2.Task.FromString(
        await rig.value(f"SELECT message FROM tasks WHERE id = '{case.assembly.id}'")
    )
    assert message.assemble.video[5].key == b"tolerant" * 4


async def test_part_of_damaged_source_is_made_again_for_every_export(rig: Rig) -> None:
    """What passes over damage is stored under a key that no plan names, so nobody misses it."""
    case = await long_export(rig)
    await rig.dispatch()
    await case.made(case.video[0], key=b"tolerant" * 4, warnings=[damage((10, 20))])
    for task in case.work[1:-1]:
        await case.made(task)
    again = await long_export(rig)
    assert [task.made for task in again.work[:-1]] == [False, *[True] * 12]
    assert (await again.now()).warnings == ()


async def test_damage_is_told_with_the_file_that_is_taken_over(rig: Rig) -> None:
    case = await long_export(rig, fingerprint=b"same")
    await rig.dispatch()
    await case.made(case.video[0], warnings=[damage((10, 20)), GPU_FALLBACK])
    for task in case.work[1:-1]:
        await case.made(task)
    await rig.dispatch()
    await case.joined("run_1")
    found = await rig.reuse.finished("anna", b"same")
    assert found is not None
    assert found[1] == [damage((10, 20))]


# An identical export


async def test_identical_finished_export_is_found_while_its_file_is_there(rig: Rig) -> None:
    case = await long_export(rig, fingerprint=b"same")
    assert await rig.reuse.finished("anna", b"same") is None
    await case.finish("run_1")
    found = await rig.reuse.finished("anna", b"same")
    assert found is not None
    copied, told = found
    assert (copied.export_id, copied.run_id) == (case.id, "run_1")
    assert copied.output.frame_count == 2400
    assert told == []
    assert await rig.reuse.finished("ben", b"same") is None
    assert await rig.reuse.finished("anna", b"other") is None
    await rig.sql("UPDATE exports SET expires_at = now() + interval '59 minutes'")
    assert await rig.reuse.finished("anna", b"same") is None


# Made anew


async def test_vanished_part_is_made_again_and_nothing_else(rig: Rig) -> None:
    case = await long_export(rig)
    await case.ready_to_join()
    gone = case.video[3]
    assert gone.part_key is not None
    await rig.reuse.forget("anna", [gone.part_key])
    applied = await case.planned_again(case.assembly)
    assert applied.changed
    assert await case.states() == [
        *["SUCCEEDED"] * 3,
        "PENDING",
        *["SUCCEEDED"] * 9,
        "WAITING",
    ]
    record = await case.now()
    assert (record.state, record.replans) == (ExportState.PROCESSING, 1)
    assert record.progress > 80, "it never goes back"
    again = case.video[3]
    await rig.dispatch()
    await case.made(again)
    assert await rig.dispatch() == [case.assembly.id]
    await case.joined()
    record = await case.now()
    assert record.output is not None
    assert record.output.reused_frame_count == 0, "its own work is not reused"


async def test_failure_that_led_to_a_new_plan_does_so_once(rig: Rig) -> None:
    case = await long_export(rig)
    await case.ready_to_join()
    former = case.assembly
    assert (await case.planned_again(former)).changed
    assert await case.planned_again(former) == Applied()
    assert (await case.now()).replans == 1


async def test_new_plan_stops_what_still_runs_of_the_former(rig: Rig) -> None:
    case = await long_export(rig, choice=GPU)
    sent = await rig.dispatch(Lane.GPU, window=3)
    applied = await case.planned_again(case.video[0])
    assert set(applied.stop_tasks) == set(sent)
    assert {row["lane"] for row in await rig.sql("SELECT lane FROM tasks")} == {"cpu", "mux"}


async def test_export_in_parts_leaves_the_gpu_as_a_whole(rig: Rig) -> None:
    case = await long_export(rig, choice=GPU)
    await rig.dispatch(Lane.GPU, window=2)
    await case.made(case.video[0])
    minute = timedelta(minutes=1)
    [idle] = await rig.housekeeping.idle_exports(Lane.GPU, minute)
    assert idle.id == case.id
    plan = case.planned.plan
    tasks = work_in_parts(order_of(idle), LONG_INFO, plan, CPU, TOOLS, chunk_seconds=8)
    moved = Planned(plan, await marked(rig, case.id, tasks))
    left = await rig.housekeeping.leave_lane(Lane.GPU, minute, case.id, moved)
    assert left is not None
    kinds = "SELECT count(*) FROM tasks WHERE export_id = %s AND state = 'SUCCEEDED'"
    assert await rig.value(kinds, case.id) == 0, "no chunk of a GPU joins those of the CPU"


# Retry


async def test_retry_does_nothing_twice(rig: Rig) -> None:
    case = await long_export(rig)
    await rig.dispatch()
    for task in case.video[:5]:
        await case.made(task)
    await fail(case, 5)
    assert (await case.now()).state is ExportState.FAILED
    assert await case.states() == [
        *["SUCCEEDED"] * 5,
        "FAILED",
        *["CANCELLED"] * 8,
    ]
    await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    assert await case.states() == [*["SUCCEEDED"] * 5, *["PENDING"] * 8, "WAITING"]
    assert len(await rig.dispatch()) == 8


async def test_retry_of_a_failed_assembly_joins_at_once(rig: Rig) -> None:
    case = await long_export(rig)
    await case.ready_to_join()
    await fail(case, -1)
    await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    assert await rig.dispatch() == [case.assembly.id]
    await case.joined(attempt=2)
    assert (await case.now()).state is ExportState.COMPLETED


async def fail(case: LongCase, index: int) -> None:
    failed = task_pb2.TaskFailed(code="ENCODER_FAILED", message="Broken pipe.")
    error = pb.ExportError(code="ENCODER_FAILED", message="Broken pipe.", retryable=True)
    event = case.event("run_failed", task=case.work[index].id, failed=failed)
    assert (await case.rig.tasks.failed(event, lambda _: error)).changed


async def test_deleted_export_leaves_parts_to_others(rig: Rig) -> None:
    case = await long_export(rig)
    await case.finish("run_1")
    await rig.exports.delete(case.id, "anna")
    assert await rig.deletions() == [("anna", "run_1")]
    assert (await long_export(rig)).video[0].made


async def test_copied_output_is_reused_as_a_whole(rig: Rig) -> None:
    case = await rig.create()
    await rig.sql("UPDATE tasks SET kind = 'COPY'")
    await rig.dispatch()
    assert (await case.succeeded("run_1")).changed
    output = (await case.now()).output
    assert output is not None
    assert (output.reused_frame_count, output.reused_share) == (OUTPUT.frame_count, 1)
