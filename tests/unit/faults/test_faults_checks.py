"""What the checks make of what they have read: histories, idle encoders, deaths."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from faults.catalogue import FAULTS
from faults.checks.encoders import MOST_IDLE, WAITED, Encode, idle
from faults.checks.evidence import GRACE, Evidence, Failure, Injected, Outcome
from faults.checks.history import failures, given_up_early, wrong_steps
from faults.deaths import NOTICED_WITHIN, Death, Deaths, unexplained
from faults.journal import Violation
from faults.rows import Row
from faults.verdict import settled
from services.common.errors import Reason

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def change(
    seconds: float,
    to: str,
    reason: str,
    *,
    old: str | None = None,
    run: str | None = None,
    **more: str,
) -> Row:
    """Return a change of an export's state; of its task's where `task` is given."""
    return {
        "export_id": "exp_1",
        "task_id": more.get("task"),
        "from_state": more.get("old"),
        "to_state": to,
        "actor": more.get("actor", "encoder:encoder-1"),
        "reason": reason,
        "detail": more.get("detail", ""),
        "run_id": run,
        "changed_at": at(seconds),
    }


def steps(*states: tuple[str, str], run: str = "run_1") -> list[Row]:
    return [
        change(number, to, reason, run=run if to == "COMPLETED" else None)
        for number, (to, reason) in enumerate(states)
    ]


CREATED, BEGUN = ("QUEUED", "CREATED"), ("PROCESSING", "STARTED")
DONE, FAILED = ("COMPLETED", "DONE"), ("FAILED", "ENCODER_FAILED")
RETRIED = ("QUEUED", "RETRIED")


@pytest.mark.parametrize(
    ("states", "state", "words"),
    [
        ([CREATED, BEGUN, DONE], "COMPLETED", None),
        ([CREATED, BEGUN, FAILED, RETRIED, BEGUN, DONE], "COMPLETED", None),
        ([CREATED, BEGUN, DONE, ("EXPIRED", "RETENTION")], "EXPIRED", None),
        # An end that is left without its owner's word.
        ([CREATED, BEGUN, FAILED, ("QUEUED", "STARTED"), BEGUN, DONE], "COMPLETED", "FAILED"),
        ([CREATED, BEGUN, ("CANCELLED", "CANCELLED"), BEGUN, DONE], "COMPLETED", "CANCELLED"),
        ([CREATED, BEGUN, DONE, ("EXPIRED", "DONE")], "EXPIRED", "EXPIRED"),
        # What the row says has no history.
        ([CREATED, BEGUN], "COMPLETED", "COMPLETED, after"),
        ([], "COMPLETED", "after nothing"),
    ],
)
def test_step_that_no_export_may_take_is_seen(
    states: Sequence[tuple[str, str]], state: str, words: str | None
) -> None:
    row = {"id": "exp_1", "state": state, "output_run_id": "run_1"}
    found = list(wrong_steps(row, steps(*states)))
    assert bool(found) is (words is not None)
    assert all(words in each.evidence for each in found if words)


def test_second_winner_is_seen_although_its_bytes_are_the_same() -> None:
    row = {"id": "exp_1", "state": "COMPLETED", "output_run_id": "run_2"}
    [found] = wrong_steps(row, steps(CREATED, BEGUN, DONE))
    assert (found.rule, "run_1" in found.evidence) == ("no export completes twice", True)
    twice = [*steps(CREATED, BEGUN, DONE), *steps(DONE, run="run_2")]
    assert "no export completes twice" in {each.rule for each in wrong_steps(row, twice)}


def tried(number: int, reason: str, *, last: bool = False) -> list[Row]:
    """Return what the history has of a run that fails."""
    run, begun, to = f"run_{number}", 10 * number, "FAILED" if last else "PENDING"
    return [
        change(begun, "RUNNING", "STARTED", run=run, task="tsk_1"),
        change(begun + 5, to, reason, old="RUNNING", run=run, task="tsk_1"),
    ]


def test_failure_that_was_tried_again_is_known_with_its_encoder_and_time() -> None:
    [failure] = failures([change(0, "QUEUED", "CREATED"), *tried(1, "ENCODER_FAILED")])
    assert (failure.reason, failure.encoder) == (Reason.ENCODER_FAILED, "encoder-1")
    assert (failure.began, failure.ended) == (at(10), at(15))


def test_failure_of_run_and_export_is_one_and_plans_made_again_tell_theirs() -> None:
    history = [
        *tried(1, "WORKER_LOST", last=True),
        change(15, "FAILED", "WORKER_LOST", run="run_1"),
        change(15, "CANCELLED", "EXPORT_FAILED", run="run_1", task="tsk_2"),
        *tried(2, "PLANNED_AGAIN"),
    ]
    history[-1]["detail"] = "PART_MISSING: Parts vanished."
    assert [each.reason for each in failures(history)] == ["WORKER_LOST", "PART_MISSING"]


def test_run_that_never_began_is_laid_to_no_encoder() -> None:
    history = [
        change(0, "QUEUED", "CREATED"),
        change(3, "DISPATCHED", "SENT", task="tsk_1"),
        change(50, "FAILED", "WORKER_LOST", run="run_4", task="tsk_1"),
    ]
    [failure] = failures(history)
    assert (failure.encoder, failure.began, failure.ended) == ("", at(0), at(50))


def test_task_that_was_given_up_early_is_seen() -> None:
    three = [row for number in (1, 2) for row in tried(number, "ENCODER_FAILED")]
    early = [*three, *tried(3, "ENCODER_FAILED", last=True)]
    [found] = given_up_early("exp_1", early)
    assert "after 3 failures" in found.evidence
    late = [*three, *tried(3, "ENCODER_FAILED"), *tried(4, "ENCODER_FAILED", last=True)]
    assert list(given_up_early("exp_1", late)) == []
    # A worker that is lost again and again is not waited for any longer.
    assert list(given_up_early("exp_1", tried(1, "WORKER_LOST", last=True))) == []
    # Its owner's word begins it anew.
    again = [*late, change(60, "PENDING", "RETRIED", task="tsk_1")]
    assert list(given_up_early("exp_1", [*again, *tried(7, "ENCODER_FAILED", last=True)])) != []


def injected(name: str, target: str = "", outcome: Outcome = Outcome.SURVIVED) -> Injected:
    return Injected(FAULTS[name], target, at(0), at(5), outcome)


def explained(fault: Injected, reason: Reason, encoder: str, began: float, ended: float) -> bool:
    failure = Failure(reason, "", "tsk_1", encoder, at(began), at(ended))
    # Only the faults are looked at.
    evidence = Evidence(None, None, None, [fault])  # type: ignore[arg-type]
    return evidence.explains(failure)


def test_fault_explains_what_fails_of_it_where_it_hit_and_while_it_did() -> None:
    kill, reason = injected("ffmpeg-kill", "encoder-1"), Reason.ENCODER_FAILED
    grace = GRACE.total_seconds()
    assert explained(kill, reason, "encoder-1", -9, 1)
    assert explained(kill, reason, "encoder-1", 5 + grace, 90)
    assert not explained(kill, reason, "encoder-2", -9, 1)
    assert not explained(kill, Reason.SOURCE_UNAVAILABLE, "encoder-1", -9, 1)
    assert not explained(kill, reason, "encoder-1", -9, -1)
    assert not explained(kill, reason, "encoder-1", 6 + grace, 90)
    assert not explained(
        injected("ffmpeg-kill", "encoder-1", Outcome.NOT_NOW), reason, "encoder-1", -9, 1
    )
    cut = injected("network-cut", "encoder-1 storage")
    assert explained(cut, Reason.STORAGE_UNAVAILABLE, "encoder-1", 0, 1)
    assert not explained(cut, Reason.STORAGE_UNAVAILABLE, "encoder-2", 0, 1)
    assert explained(injected("storage-kill"), Reason.STORAGE_UNAVAILABLE, "encoder-2", 0, 1)


def encodes(numbers: Sequence[int], began: float, ended: float, waited: float) -> list[Encode]:
    """Return encodes of two seconds, one after the other on each encoder."""
    return [
        Encode(f"encoder-{number}", at(second - waited), at(second), at(second + 2))
        for second in range(int(began), int(ended), 4)
        for number in numbers
    ]


def test_encoder_that_sits_idle_while_encodes_wait_for_others_is_seen() -> None:
    end = 3 * MOST_IDLE.total_seconds()
    late = 2 * WAITED.total_seconds()
    others = encodes([1, 3], 0, end, late)
    assert idle([*others, *encodes([2], 0, end, late)], at(0), at(end)) == []
    [found] = idle([*others, *encodes([2], 0, end / 2, late)], at(0), at(end))
    assert (found.subject, "idle from" in found.evidence) == ("encoder-2", True)
    # It works again in the end, and that it did not for long is seen all the same.
    gap = [*encodes([2], 0, 20, late), *encodes([2], end - 20, end, late)]
    assert [each.subject for each in idle([*others, *gap], at(0), at(end))] == ["encoder-2"]
    # Nothing had to wait: there was no work for it.
    quick = encodes([1, 3], 0, end, 0.1)
    assert idle(quick, at(0), at(end)) == []
    # One long encode is work; for shorter than that, an encoder starts.
    long = Encode("encoder-2", at(0), at(0), at(end))
    assert idle([long, *encodes([2], 4, 8, late), *others], at(0), at(end)) == []
    short = MOST_IDLE.total_seconds() - 1
    assert idle(encodes([1, 3], 0, short, late), at(0), at(short)) == []


def test_death_without_a_signal_of_ours_is_seen() -> None:
    api, killed = Death("api", at(0)), "was ended by SIGKILL"
    end = Death("api", at(1), killed)
    assert unexplained([end], [api]) == []
    # Two ends for one signal; another part; another end; too late; none at all.
    assert unexplained([end, end], [api]) == [end]
    for other in (
        Death("storage", at(1), killed),
        Death("api", at(1), "exited with status 1"),
        Death("api", at(1) + NOTICED_WITHIN, killed),
        Death("api", at(-1), killed),
    ):
        assert unexplained([other], [api]) == [other]


def test_deaths_are_what_the_supervisor_says() -> None:
    told: list[str] = []
    deaths = Deaths(told.append)
    words = [
        "api was ended by SIGSEGV\nstarting api again in 1 s",
        "api runs again",
        "encoder-1 was not ready within 60 s\n  last lines\nstarting encoder-1 again in 1 s",
    ]
    for text in words:
        deaths.notify(text)
    found = deaths.unexplained(BEGAN.replace(year=2000))
    assert [each.part for each in found] == ["api", "encoder-1"]
    assert found[0].how == "api was ended by SIGSEGV"
    assert told == words


async def test_check_that_cannot_be_made_is_a_violation_of_its_own() -> None:
    async def check(_: Evidence) -> list[Violation]:
        raise ConnectionError("Postgres is away")

    evidence = Evidence(None, None, None)  # type: ignore[arg-type]
    [found] = await settled(check, evidence, 0.0)
    assert (found.subject, found.evidence) == ("check", "ConnectionError: Postgres is away")
