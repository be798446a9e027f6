"""What is made of recovery times and of memory: the table, its limits, the file, growth."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from faults.catalogue import FAULTS
from faults.checks.evidence import Injected, Outcome
from faults.journal import Violation
from faults.report import Result, table, write_json
from faults.soak import growth

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)


def injected(name: str, seconds: float | None, outcome: Outcome = Outcome.SURVIVED) -> Injected:
    ended = BEGAN + timedelta(seconds=seconds or 0)
    return Injected(FAULTS[name], "", BEGAN, ended, outcome, seconds)


def test_table_tells_median_and_longest_and_which_limit_is_missed() -> None:
    result = Result(
        seed=7,
        seconds=61,
        exports={"accepted": 3, "COMPLETED": 2, "FAILED": 1},
        injected=[
            injected("encoder-kill", 3.0),
            injected("encoder-kill", 7.0),
            injected("encoder-kill", 20.0),
            injected("encoder-kill", None),
            injected("nats-leader-kill", 1.0),
            injected("nats-leader-kill", 9.0),
            injected("s3-500", None, Outcome.NOT_NOW),
            injected("api-kill", None, Outcome.LOST),
        ],
    )
    lines = {line.split()[0]: line.split() for line in table(result).splitlines() if line}
    # The median is asked of encoders: one that took long is no miss.
    assert lines["encoder-kill"][1:7] == ["4", "4", "7.00", "s", "20.00", "s"]
    assert lines["encoder-kill"][-1] == "yes"
    assert lines["nats-leader-kill"][-1] == "MISSED"
    assert lines["api-kill"][1:] == ["1", "0"]
    assert "7 faults injected, 6 survived; 1 more found nothing to hit" in table(result)
    assert "seed 7, 61 s" in table(result)
    assert "no violation" in table(result)


def test_table_shows_every_violation_and_says_when_the_checks_were_not_made() -> None:
    result = Result(seed=1, violations=[Violation("every accepted export ends", "exp_1", "gone")])
    assert "1 VIOLATIONS\nevery accepted export ends: exp_1: gone" in table(result)
    assert "the final checks were not made" in table(Result(seed=1, interrupted=True))
    assert "no violation" not in table(Result(seed=1, interrupted=True))


def test_table_counts_what_failed_on_the_way() -> None:
    result = Result(seed=1, failed_runs={"ENCODER_FAILED": 12, "SCRATCH_FULL": 1}, retried=3)
    text = "runs that failed on the way: 12 ENCODER_FAILED, 1 SCRATCH_FULL; 3 exports retried"
    assert text in table(result)


def test_table_says_whose_memory_grows() -> None:
    lines = table(Result(seed=1, growth={"api": 1.25, "storage": 7.0})).splitlines()
    assert [line.split()[-1] for line in lines if "%" in line] == ["yes", "MISSED"]


def test_file_holds_what_the_table_does(tmp_path: Path) -> None:
    path = tmp_path / "build" / "faults.json"
    write_json(path, Result(seed=7, injected=[injected("nats-leader-kill", 9.0)]))
    data = json.loads(path.read_text())
    assert data["seed"] == 7
    assert data["faults"]["nats-leader-kill"]["recovery_max"] == 9.0
    assert data["faults"]["nats-leader-kill"]["met"] is False
    assert data["log"][0]["outcome"] == "survived"


def test_growth_sees_through_warm_up_and_peaks() -> None:
    dice = random.Random(1)
    warm = [(float(t), 100.0 + dice.uniform(-2, 2)) for t in range(1000)]
    start = [(float(t) - 200, 50.0 + t / 4) for t in range(200)]
    peaks = [(t, b * 3 if int(t) % 50 == 0 else b) for t, b in warm]
    assert growth([*start, *peaks]) == pytest.approx(0, abs=0.5)
    leaking = [(t, b + 0.02 * t) for t, b in peaks]
    assert growth([*start, *leaking]) == pytest.approx(20, abs=2)
    assert growth([]) == 0
