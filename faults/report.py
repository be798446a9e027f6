"""What a campaign found: lines while it runs, a table for people, JSON for machines."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import aligned
from faults.checks.evidence import Injected, Outcome
from faults.fault import Limit
from faults.journal import Violation, tell

EXIT_VIOLATED = 1
# From the end of the warm-up to the end of a soak.
MOST_GROWTH_PERCENT = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of fault.

    Attributes:
        injected: how often it was done; `not_injected` how often there was nothing to hit.
        survived: how often work went on afterwards.
        seconds: of each recovery that there was, ascending.
    """

    fault: str
    injected: int
    not_injected: int
    survived: int
    seconds: Sequence[float]
    limit: Limit | None

    @property
    def median(self) -> float | None:
        """The middle of the recovery times."""
        return median(self.seconds) if self.seconds else None

    @property
    def longest(self) -> float | None:
        """The longest recovery time."""
        return self.seconds[-1] if self.seconds else None

    @property
    def met(self) -> bool | None:
        """Whether recovery is as quick as it has to be; None without a limit or a time."""
        if self.limit is None or self.median is None or self.longest is None:
            return None
        return (self.median if self.limit.median else self.longest) <= self.limit.seconds


@dataclass
class Result:
    """A campaign, finished or broken off.

    Attributes:
        seconds: that it took, checks aside.
        exports: how many ended in which state; `accepted` is how many were promised.
        failed_runs: of the exports that are still there, by reason, each explained by a fault.
        retried: how many exports had failed and were queued again by their owners.
        unfinished_uploads: left to the bucket's rule.
        growth: of each service's memory in percent, where it was measured.
    """

    seed: int
    seconds: float = 0.0
    interrupted: bool = False
    exports: Mapping[str, int] = field(default_factory=dict)
    injected: Sequence[Injected] = field(default_factory=list)
    violations: Sequence[Violation] = field(default_factory=list)
    failed_runs: Mapping[str, int] = field(default_factory=dict)
    retried: int = 0
    unfinished_uploads: int = 0
    growth: Mapping[str, float] = field(default_factory=dict)

    @property
    def lines(self) -> list[Line]:
        """What was injected, by kind."""
        kinds: defaultdict[str, list[Injected]] = defaultdict(list)
        for each in self.injected:
            kinds[each.fault.name].append(each)
        return [_line(name, done) for name, done in sorted(kinds.items())]


def _line(name: str, done: Sequence[Injected]) -> Line:
    real = [each for each in done if each.outcome is not Outcome.NOT_NOW]
    return Line(
        name,
        len(real),
        len(done) - len(real),
        sum(each.outcome is Outcome.SURVIVED for each in real),
        sorted(each.seconds for each in real if each.seconds is not None),
        done[0].fault.limit,
    )


def progress(done: Injected, elapsed: float, finished: int) -> str:
    """Return a line about a fault that was just injected."""
    took = "" if done.seconds is None else f" after {done.seconds:.1f} s"
    note = f" ({done.note})" if done.note else ""
    name = f"{done.fault.name} {done.target}".strip()
    return f"{elapsed:5.0f} s  {finished:4d} exports  {name}: {done.outcome.value}{took}{note}"


def table(result: Result) -> str:
    """Return all that a person wants to know, as fixed-width text."""
    rows = [("fault", "injected", "survived", "recovery p50", "max", "limit", "met")]
    for line in result.lines:
        missed = {None: "", True: "yes", False: "MISSED"}[line.met]
        rows.append(
            (
                line.fault,
                str(line.injected),
                str(line.survived),
                _seconds(line.median),
                _seconds(line.longest),
                str(line.limit or ""),
                missed,
            )
        )
    injected = sum(line.injected for line in result.lines)
    skipped = sum(line.not_injected for line in result.lines)
    survived = sum(line.survived for line in result.lines)
    counts = ", ".join(f"{count} {state.lower()}" for state, count in result.exports.items())
    failed = ", ".join(f"{count} {reason}" for reason, count in result.failed_runs.items())
    parts = [
        aligned(rows, right={1, 2, 3, 4}) if result.lines else "",
        f"{injected} faults injected, {survived} survived"
        + (f"; {skipped} more found nothing to hit" if skipped else ""),
        f"exports: {counts or 'none'}",
        f"runs that failed on the way: {failed or 'none'}; "
        f"{result.retried} exports retried by their owners",
        f"seed {result.seed}, {result.seconds:.0f} s"
        + (", interrupted: the final checks were not made" if result.interrupted else ""),
    ]
    if result.unfinished_uploads:
        parts.append(
            f"{result.unfinished_uploads} unfinished uploads are left to the bucket's rule of a day"
        )
    if result.growth:
        limit = f"≤ {MOST_GROWTH_PERCENT:g} %"
        grown = [
            (name, f"{percent:+.1f} %", limit, "yes" if is_flat(percent) else "MISSED")
            for name, percent in result.growth.items()
        ]
        parts.append(aligned([("memory of", "growth", "limit", "met"), *grown], right={1}))
    if result.violations:
        parts.append(f"{len(result.violations)} VIOLATIONS\n{tell(result.violations)}")
    elif not result.interrupted:
        parts.append("no violation")
    return "\n\n".join(part for part in parts if part) + "\n"


def is_flat(percent: float) -> bool:
    """Whether memory has grown by no more than it may."""
    return percent <= MOST_GROWTH_PERCENT


def write_json(path: Path, result: Result) -> None:
    """Write all of it as JSON: times in seconds."""
    faults: dict[str, Any] = {
        line.fault: {
            "injected": line.injected,
            "not_injected": line.not_injected,
            "survived": line.survived,
            "recovery_p50": line.median,
            "recovery_max": line.longest,
            "limit": str(line.limit) if line.limit else None,
            "met": line.met,
        }
        for line in result.lines
    }
    log = [
        {
            "fault": each.fault.name,
            "target": each.target,
            "began": each.began.isoformat(),
            "ended": each.ended.isoformat(),
            "outcome": each.outcome.value,
            "recovery": each.seconds,
            "note": each.note,
        }
        for each in result.injected
    ]
    whole = {
        "seed": result.seed,
        "seconds": round(result.seconds, 1),
        "interrupted": result.interrupted,
        "exports": dict(result.exports),
        "faults": faults,
        "violations": [asdict(each) for each in result.violations],
        "failed_runs": dict(result.failed_runs),
        "retried": result.retried,
        "unfinished_uploads": result.unfinished_uploads,
        "memory_growth_percent": dict(result.growth),
        "log": log,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"
