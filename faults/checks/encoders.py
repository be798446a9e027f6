"""Encoders: none sits idle, for whatever reason, while the others work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from faults.checks.evidence import Evidence
from faults.fault import ENCODERS
from faults.journal import Violation
from services.common.subjects import Lane

# Longer than any fault keeps an encoder from work, a start on a busy machine included.
MOST_IDLE = timedelta(seconds=60)
# An encoder with a free slot is given a message at once; the rest is the way of its answer.
WAITED = timedelta(seconds=3)
# So many encodes waited for others meanwhile: there was work to be had.
MOST_WAITED = 4
RULE = "every encoder works"
# What is delivered again has waited for the encoder that had it first.
RUNS = """
    SELECT runs.encoder_id AS encoder, runs.started_at AS began,
        coalesce(runs.ended_at, runs.started_at) AS ended,
        CASE WHEN runs.delivery = 1 AND runs.attempt = tasks.attempt
            THEN least(tasks.dispatched_at, runs.started_at) ELSE runs.started_at END AS sent
    FROM runs JOIN tasks ON tasks.id = runs.task_id
    WHERE tasks.lane = %(lane)s AND tasks.user_id = ANY(%(users)s)
    ORDER BY runs.started_at
"""


@dataclass(frozen=True, slots=True)
class Encode:
    """One run of an encoder, as far as it is known; `sent` is when its message was stored."""

    encoder: str
    sent: datetime
    began: datetime
    ended: datetime


async def every_encoder_works(evidence: Evidence) -> list[Violation]:
    """No encoder was idle for long while encodes waited for the others."""
    rows = await evidence.rows.ask(RUNS, lane=Lane.CPU.value, users=evidence.journal.users)
    encodes = [Encode(row["encoder"], row["sent"], row["began"], row["ended"]) for row in rows]
    return idle(encodes, evidence.began, evidence.ended)


def idle(encodes: Sequence[Encode], began: datetime, ended: datetime) -> list[Violation]:
    """Return when an encoder has done nothing for too long, while encodes waited for others."""
    found = []
    for encoder in ENCODERS:
        others = [each for each in encodes if each.encoder != encoder]
        own = sorted((each.began, each.ended) for each in encodes if each.encoder == encoder)
        last = began
        for start, end in [*own, (ended, ended)]:
            waited = [
                each
                for each in others
                if last < each.sent and each.began < start and each.began - each.sent > WAITED
            ]
            if start - last > MOST_IDLE and len(waited) > MOST_WAITED:
                text = f"idle from {last} to {start}, while {len(waited)} encodes waited for others"
                found.append(Violation(RULE, encoder, text))
            last = max(last, end)
    return found
