"""Histories of exports: each ends once, and whatever failed on the way had a cause.

An export that has failed and is queued again shows nothing of it any more, nor does one whose
task was tried again: so the history is asked, not the last state alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from faults.checks.evidence import Evidence, Failure
from faults.journal import Violation
from faults.orders import Fate
from faults.rows import Row
from services.api.settings import ApiSettings
from services.api.states import EXPORT_TRANSITIONS, ExportState, TaskState
from services.api.store.history import Cause
from services.common.errors import TABLE, Reason

HISTORY = """
    SELECT export_id, task_id, from_state, to_state, actor, reason, detail, run_id, changed_at
    FROM state_changes WHERE export_id = ANY(%(ids)s) ORDER BY id
"""
WINNERS = """
    SELECT id, state, output_run_id FROM exports WHERE id = ANY(%(ids)s)
"""
TASK_ATTEMPTS: int = ApiSettings.model_fields["task_attempts"].default
REASONS = frozenset(Reason)
# Who may leave a state that is an end, and how the history calls that.
ALLOWED = {
    (ExportState.FAILED, ExportState.QUEUED): Cause.RETRIED,
    (ExportState.COMPLETED, ExportState.EXPIRED): Cause.RETENTION,
}
Histories = Mapping[str, Sequence[Row]]


async def exports_end_once(evidence: Evidence) -> list[Violation]:
    """Each export goes from state to state as it may, is completed once, and by one run."""
    rows = await evidence.rows.ask(WINNERS, ids=list(evidence.journal.exports))
    histories = await read(evidence)
    return [each for row in rows for each in wrong_steps(row, histories.get(row["id"], ()))]


async def failures_have_reasons(evidence: Evidence) -> list[Violation]:
    """Each failure, also one that was tried again, comes of a fault that was there then."""
    found = []
    for id, history in (await read(evidence)).items():
        is_bad = evidence.journal.exports[id].order.fate is Fate.NO_VIDEO
        for failure in failures(history):
            if is_bad and failure.reason == Reason.INVALID_SOURCE:
                continue
            if not evidence.explains(failure):
                text = f"{failure}; no fault that was there explains it"
                found.append(Violation("every failure has a true reason", id, text))
        found += given_up_early(id, history)
    return found


async def read(evidence: Evidence) -> Histories:
    """Return the changes of each accepted export that is still there, oldest first."""
    rows = await evidence.rows.ask(HISTORY, ids=list(evidence.journal.exports))
    histories: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        histories[row["export_id"]].append(row)
    return histories


def wrong_steps(row: Row, history: Sequence[Row]) -> Iterator[Violation]:
    """Yield what an export's own changes must not be.

    Args:
        row: its `id`, `state` and `output_run_id`.
    """
    rule = "every export ends once"
    own = [each for each in history if each["task_id"] is None]
    steps = [f"{each['from_state']} → {each['to_state']} ({each['reason']})" for each in own]
    if not own or own[-1]["to_state"] != row["state"]:
        yield Violation(rule, row["id"], f"{row['state']}, after {', '.join(steps) or 'nothing'}")
    for before, after in pairwise(own):
        old, new = ExportState(before["to_state"]), ExportState(after["to_state"])
        cause = ALLOWED.get((old, new), after["reason"])
        if new not in EXPORT_TRANSITIONS[old] or after["reason"] != cause:
            yield Violation(rule, row["id"], ", ".join(steps))
    winners = [each["run_id"] for each in own if each["to_state"] == ExportState.COMPLETED]
    if winners and winners != [row["output_run_id"]]:
        text = f"completed by {', '.join(map(str, winners))}; the row has {row['output_run_id']}"
        yield Violation("no export completes twice", row["id"], text)


def failures(history: Sequence[Row]) -> list[Failure]:
    """Return the failures of an export's runs, tried again or not, oldest first."""
    began: dict[str, Row] = {}
    found: dict[str, Failure] = {}
    for row in history:
        run = row["run_id"] or ""
        if row["reason"] in (Cause.STARTED, Cause.DELIVERED_AGAIN):
            began.setdefault(run, row)
        reason = _reason(row)
        if reason is None or run in found:
            continue
        # One that was given up on before it began has had others before it.
        first = began.get(run) or next(
            each for each in history if each["task_id"] in (row["task_id"], None)
        )
        found[run or str(row["changed_at"])] = Failure(
            reason=reason,
            detail=row["detail"] or "",
            task=row["task_id"] or "",
            encoder=(row["actor"] or "").removeprefix("encoder:") if run in began else "",
            began=first["changed_at"],
            ended=row["changed_at"],
        )
    return list(found.values())


def given_up_early(id: str, history: Sequence[Row]) -> Iterator[Violation]:
    """Yield where an export failed of what may be tried again, and was not as often as it is."""
    since = 0
    for number, row in enumerate(history):
        if row["reason"] == Cause.RETRIED:
            since = number
        is_end = row["task_id"] is not None and row["to_state"] == TaskState.FAILED
        reason = _reason(row) if is_end else None
        if reason is None or not TABLE[reason].retryable:
            continue
        tries = [
            each
            for each in failures(history[: number + 1])
            if each.task == row["task_id"] and each.ended >= history[since]["changed_at"]
        ]
        if len(tries) < TASK_ATTEMPTS:
            text = f"given up for {reason} after {len(tries)} failures"
            yield Violation("what may pass is tried again", id, text)


def count_retries(histories: Histories) -> int:
    """Return how many exports failed and were queued again by their owners."""
    return sum(
        row["task_id"] is None and row["reason"] == Cause.RETRIED
        for history in histories.values()
        for row in history
    )


def _reason(row: Row) -> Reason | None:
    """Return what has failed, where a change comes of a failure."""
    text = row["reason"] or ""
    if text == Cause.PLANNED_AGAIN and row["run_id"] is not None:
        text = (row["detail"] or "").partition(":")[0]
    return Reason(text) if text in REASONS else None
