"""Events of several runs in every order, each more than once: one end, the right one."""

from __future__ import annotations

from random import Random

import pytest
from api_rig import Rig

from services.api.states import ExportState

# What three runs of a task have to say: one failed, and JetStream gave the next attempt to two
# encoders, which both made the file.
SAID = [
    ("started", "run_1", 1),
    ("failed", "run_1", 1),
    ("started", "run_2", 2),
    ("succeeded", "run_2", 2),
    ("started", "run_3", 2),
    ("succeeded", "run_3", 2),
]


@pytest.mark.parametrize("seed", range(12))
async def test_events_in_any_order_complete_the_export_once(rig: Rig, seed: int) -> None:
    case = await rig.create()
    await rig.dispatch()
    events = SAID * 2
    Random(seed).shuffle(events)
    first = next(run for kind, run, _ in events if kind == "succeeded")
    [loser] = {"run_2", "run_3"} - {first}
    ends = 0
    for kind, run, attempt in events:
        applied = await getattr(case, kind)(run, attempt=attempt)
        ends += applied.output is not None
    record = await case.now()
    assert (record.state, record.output_run_id) == (ExportState.COMPLETED, first)
    assert ends == 1
    assert await rig.value("SELECT count(*) FROM announcements") == 1
    deleted = [run for _, run in await rig.deletions()]
    assert loser in deleted
    assert first not in deleted
    # Nobody is waited for any more, and nothing is sent again.
    assert await rig.value("SELECT count(*) FROM runs WHERE ended_at IS NULL") == 0
    assert await rig.dispatch() == []
