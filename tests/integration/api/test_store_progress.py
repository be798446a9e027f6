"""Progress in the rows: it never goes back, and tells which runs are to stop."""

from __future__ import annotations

import asyncio

import psycopg
from api_rig import NO_QUOTAS, Case, Rig

from services.api.states import ExportState
from services.api.store.progress import Progress


def word(
    case: Case, frames: int, run: str = "run_1", *, attempt: int = 1, phase: str = "ENCODING"
) -> Progress:
    return Progress(
        task_id=case.task.id,
        export_id=case.id,
        run_id=run,
        attempt=attempt,
        phase=phase,
        frames_done=frames,
    )


async def test_progress_is_the_share_of_the_frames_less_a_percent(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    assert await rig.tasks.progressed([word(case, 50)]) == ([case.id], [])
    record = await case.now()
    assert (record.progress, record.phase) == (49.5, "ENCODING")
    await rig.tasks.progressed([word(case, 100, phase="UPLOADING")])
    record = await case.now()
    assert (record.progress, record.phase) == (99.0, "UPLOADING")
    await rig.tasks.progressed([word(case, 140)])
    assert (await case.now()).progress == 99.0


async def test_progress_never_goes_back(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await rig.tasks.progressed([word(case, 80)])
    await rig.tasks.progressed([word(case, 30)])
    assert (await case.now()).progress == 79.2
    await case.released()
    await rig.dispatch()
    await case.started("run_2", attempt=2)
    await rig.tasks.progressed([word(case, 1, "run_2", attempt=2)])
    assert (await case.now()).progress == 79.2
    await case.failed_for_good("run_2", attempt=2)
    assert (await case.now()).progress == 79.2


async def test_progress_does_not_go_back_when_a_failed_export_starts_over(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await rig.tasks.progressed([word(case, 80)])
    await case.failed_for_good()
    await rig.exports.retry(case.id, "anna", NO_QUOTAS)
    await rig.dispatch()
    await case.started("run_2", attempt=2)
    await rig.tasks.progressed([word(case, 1, "run_2", attempt=2)])
    assert (await case.now()).progress == 79.2
    assert (await case.task_row())["frames_done"] == 1


async def test_progress_of_many_exports_is_written_together(rig: Rig) -> None:
    cases = [await rig.create() for _ in range(5)]
    await rig.dispatch()
    for number, case in enumerate(cases):
        await case.started(f"run_{number}")
    words = [word(case, 10 * n, f"run_{n}") for n, case in enumerate(cases)]
    moved, stale = await rig.tasks.progressed(words)
    assert (moved, stale) == (sorted(case.id for case in cases), [])
    assert [(await case.now()).progress for case in cases] == [0, 9.9, 19.8, 29.7, 39.6]


async def test_progress_is_a_sign_of_life(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await rig.sql("UPDATE tasks SET seen_at = now() - interval '1 hour'")
    await rig.tasks.progressed([word(case, 1)])
    assert await rig.value("SELECT now() - seen_at < interval '10 seconds' FROM tasks")


async def test_nothing_to_write_is_nothing(rig: Rig) -> None:
    assert await rig.tasks.progressed([]) == ([], [])


async def test_run_of_a_cancelled_export_is_to_stop(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await rig.exports.cancel(case.id, "anna")
    before = await case.now()
    assert await rig.tasks.progressed([word(case, 50)]) == ([], ["run_1"])
    assert await case.now() == before


async def test_run_of_a_deleted_export_is_to_stop(rig: Rig) -> None:
    case = await rig.create()
    await case.begin()
    await rig.exports.delete(case.id, "anna")
    assert await rig.tasks.progressed([word(case, 50)]) == ([], ["run_1"])


async def test_overtaken_run_is_to_stop_although_the_new_one_is_heard_too(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.released("run_1")
    await rig.dispatch()
    await case.started("run_2", attempt=2)
    words = [word(case, 90, "run_1", attempt=1), word(case, 10, "run_2", attempt=2)]
    for both in (words, words[::-1]):
        assert await rig.tasks.progressed(both) == ([case.id], ["run_1"])
    assert (await case.now()).progress == 9.9


async def test_two_runs_of_one_attempt_both_go_on_and_the_further_one_counts(rig: Rig) -> None:
    case = await rig.create()
    await case.begin("run_1")
    await case.started("run_2")
    words = [word(case, 60, "run_1"), word(case, 20, "run_2")]
    assert await rig.tasks.progressed(words) == ([case.id], [])
    assert (await case.now()).progress == 59.4
    words = [word(case, 25, "run_2"), word(case, 70, "run_1")]
    assert await rig.tasks.progressed(words) == ([case.id], [])
    assert (await case.now()).progress == 69.3


async def test_run_whose_start_is_still_on_its_way_goes_on(rig: Rig) -> None:
    # The dispatch was published but its transaction lost: the row still has attempt 0.
    case = await rig.create()
    assert await rig.tasks.progressed([word(case, 50, attempt=1)]) == ([case.id], [])
    record = await case.now()
    assert (record.state, record.progress) == (ExportState.QUEUED, 0)


async def test_progress_passes_over_an_export_that_somebody_has_locked(rig: Rig) -> None:
    case, other = await rig.create(), await rig.create()
    await case.begin()
    await other.begin("run_2")
    words = [word(case, 50), word(other, 50, "run_2")]
    async with await psycopg.AsyncConnection.connect(rig.url) as caller:
        await caller.execute("SELECT 1 FROM exports WHERE id = %s FOR UPDATE", [case.id])
        async with asyncio.timeout(2):
            assert await rig.tasks.progressed(words) == ([other.id], [])
        await caller.commit()
    assert [(await each.now()).progress for each in (case, other)] == [0, 49.5]
    assert await rig.tasks.progressed(words) == (sorted([case.id, other.id]), [])


async def test_run_of_a_deleted_export_is_stopped_though_another_is_locked(rig: Rig) -> None:
    case, gone = await rig.create(), await rig.create()
    await case.begin()
    await gone.begin("run_2")
    await rig.exports.delete(gone.id, "anna")
    async with await psycopg.AsyncConnection.connect(rig.url) as caller:
        await caller.execute("SELECT 1 FROM exports WHERE id = %s FOR UPDATE", [case.id])
        words = [word(case, 50), word(gone, 50, "run_2")]
        assert await rig.tasks.progressed(words) == ([], ["run_2"])
