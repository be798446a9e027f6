"""Encoders: none sits idle, for whatever reason, while the others work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from faults.checks.evidence import Evidence
from faults.fault import ENCODERS
from faults.journal import Violation
from services.common.subjects import Lane

# Longer than any fault keeps an encoder from work: killed, it is back after 5 s; cut off, it
# hears of NATS after 10 s.
MOST_IDLE = timedelta(seconds=40)
# Begun by others meanwhile: so there was work to be had.
OTHERS_BEGAN = 5
RULE = "every encoder works"
RUNS = """
    SELECT runs.encoder_id AS encoder, runs.started_at AS began,
        coalesce(runs.ended_at, runs.started_at) AS ended
    FROM runs JOIN tasks ON tasks.id = runs.task_id
    WHERE tasks.lane = %(lane)s AND tasks.user_id = ANY(%(users)s)
    ORDER BY runs.started_at
"""


@dataclass(frozen=True, slots=True)
class Encode:
    """One run of an encoder, as far as it is known."""

    encoder: str
    began: datetime
    ended: datetime


async def every_encoder_works(evidence: Evidence) -> list[Violation]:
    """No encoder was idle for long while users were at work and others began encodes."""
    rows = await evidence.rows.ask(RUNS, lane=Lane.CPU.value, users=evidence.journal.users)
    encodes = [Encode(row["encoder"], row["began"], row["ended"]) for row in rows]
    return idle(encodes, evidence.began, evidence.ended)


def idle(encodes: Sequence[Encode], began: datetime, ended: datetime) -> list[Violation]:
    """Return when an encoder has begun and done nothing for too long, others having begun."""
    found = []
    for encoder in ENCODERS:
        own = [each for each in encodes if each.encoder == encoder]
        others = [each.began for each in encodes if each.encoder != encoder]
        busy = [Encode("", began, began), *own, Encode("", ended, ended)]
        last = began
        for before, after in pairwise(busy):
            last = min(ended, max(last, before.ended))
            meanwhile = sum(last < at < after.began for at in others)
            if after.began - last > MOST_IDLE and meanwhile >= OTHERS_BEGAN:
                text = f"idle from {last} to {after.began}, while others began {meanwhile} encodes"
                found.append(Violation(RULE, encoder, text))
    return found
