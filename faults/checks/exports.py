"""Exports: none is lost, each ends as it was ordered and told, with the right file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from faults.checks.evidence import Evidence
from faults.journal import Accepted, Violation
from faults.orders import Fate
from faults.rows import Row
from services.api.states import ACTIVE_EXPORTS, TERMINAL_EXPORTS, ExportState

EXPORTS = """
    SELECT id, user_id, state, plan, output, output_run_id, error, created_at, ended_at
    FROM exports WHERE user_id = ANY(%(users)s)
"""


async def accepted_exports_end(evidence: Evidence) -> list[Violation]:
    """Every accepted export is there and terminal; a deleted one is gone; no other is there."""
    rule = "every accepted export ends"
    rows = {row["id"]: row for row in await _exports(evidence)}
    found = []
    for entry in evidence.journal.exports.values():
        row = rows.pop(entry.id, None)
        if row is None and not entry.deleted:
            found.append(Violation(rule, entry.id, f"accepted at {entry.at}, and there is no row"))
        elif row is not None and entry.deletion_answered:
            found.append(Violation(rule, entry.id, f"its deletion was answered; {row['state']}"))
        elif row is not None and row["state"] in ACTIVE_EXPORTS:
            found.append(Violation(rule, entry.id, f"{row['state']} since {row['created_at']}"))
    found += [Violation(rule, id, "a row of an export that nobody was promised") for id in rows]
    return found


async def exports_end_as_ordered(evidence: Evidence) -> list[Violation]:
    """Nothing is cancelled unasked, nothing is made of what is no video."""
    found = []
    for row, entry in await _known(evidence):
        if row["state"] == "CANCELLED" and not entry.cancelled:
            found.append(Violation("only owners cancel", entry.id, "CANCELLED unasked"))
        if row["state"] == "COMPLETED" and entry.order.fate is Fate.NO_VIDEO:
            found.append(Violation("every failure is told", entry.id, "COMPLETED from a text"))
    return found


async def exports_are_as_told(evidence: Evidence) -> list[Violation]:
    """What an export's owner was told last, and heard of cancelling it, is what its row says."""
    found = []
    for row, entry in await _known(evidence):
        if entry.deleted:
            continue
        told = entry.streams[-1][-1].state if entry.streams and entry.streams[-1] else None
        if told is None or ExportState.of(told) != row["state"]:
            name = ExportState.of(told) if told else "nothing"
            text = f"{name} was told last; {row['state']}"
            found.append(Violation("every end is told", entry.id, text))
        if entry.cancel_answer and entry.cancel_answer != row["state"]:
            text = f"its cancellation was answered {entry.cancel_answer}; {row['state']}"
            found.append(Violation("a cancellation is as it was answered", entry.id, text))
        if entry.cancel_refused and row["state"] == "CANCELLED":
            text = "the owner was told that it has ended"
            found.append(Violation("a cancellation is as it was answered", entry.id, text))
    return found


async def outputs_are_as_planned(evidence: Evidence) -> list[Violation]:
    """A completed export has the frames of its order, and one content from first to last."""
    rule = "every output is as planned"
    found = []
    for row, entry in await _known(evidence):
        if row["state"] != "COMPLETED":
            continue
        told, planned = (
            int(row["output"].get("frame_count", 0)),
            int(row["plan"].get("frame_count", 0)),
        )
        ordered = len(entry.order.frames)
        if not told == planned == ordered:
            text = f"{ordered} frames ordered, {planned} planned, {told} told"
            found.append(Violation(rule, entry.id, text))
        if other := entry.digests - {row["output"]["sha256"]}:
            text = f"was told of {', '.join(other)}; the row has {row['output']['sha256']}"
            found.append(Violation("no export completes twice", entry.id, text))
        if entry.file_is_right is None:
            found.append(
                Violation("every file is as ordered", entry.id, "nobody has seen its file")
            )
    return found


async def progress_never_goes_back(evidence: Evidence) -> list[Violation]:
    """What a watcher is told only grows, and nothing follows a terminal state."""
    found = []
    for entry in evidence.journal.exports.values():
        for stream in entry.streams:
            for before, after in pairwise(stream):
                if ExportState.of(before.state) in TERMINAL_EXPORTS:
                    text = f"{ExportState.of(after.state)} after {ExportState.of(before.state)}"
                    found.append(Violation("nothing follows the end", entry.id, text))
                if after.progress < before.progress:
                    text = f"from {before.progress} to {after.progress} in one watch"
                    found.append(Violation("progress never goes back", entry.id, text))
    return found


async def _exports(evidence: Evidence) -> list[Row]:
    return await evidence.rows.ask(EXPORTS, users=evidence.journal.users)


async def _known(evidence: Evidence) -> Iterator[tuple[Row, Accepted]]:
    """Return the rows of accepted exports with what is known of them."""
    accepted = evidence.journal.exports
    rows = await _exports(evidence)
    return ((row, accepted[row["id"]]) for row in rows if row["id"] in accepted)
