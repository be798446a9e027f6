"""Figures, and how they are told: a table for people, a JSON file for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXIT_MISSED = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured; `<figure>` for the main number, `<figure>.<detail>` for others.
        value: in `unit`.
        target: in words; None where the number is stated only.
        met: whether `value` meets the target; None without one.
    """

    name: str
    value: float
    unit: str
    target: str | None = None
    met: bool | None = None


def say(text: str) -> None:
    """Tell whoever waits what is going on."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a table of fixed-width text."""
    rows: list[tuple[str, ...]] = [("figure", "value", "unit", "target", "met")]
    rows += [
        (figure.name, number(figure.value), figure.unit, figure.target or "", _met(figure))
        for figure in figures
    ]
    # Numbers end in one column, everything else begins in one.
    return aligned(rows, right={1})


def aligned(rows: Sequence[tuple[str, ...]], *, right: Collection[int] = ()) -> str:
    """Return rows, the first of which is the heading, as a table of fixed-width text.

    Args:
        right: columns whose cells end together; those of the others begin together.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [rows[0], tuple("-" * width for width in widths), *rows[1:]]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def number(value: float) -> str:
    """Return a number with about three digits that say something."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _met(figure: Figure) -> str:
    return {None: "", True: "yes", False: "MISSED"}[figure.met]


def merge_json(path: Path, figures: Sequence[Figure]) -> None:
    """Put figures into a file of `{name: {value, unit, target, met}}`; others in it stay.

    A figure's old details go with it, so that no number outlives the run that it came from.
    """
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        kept = {}
    replaced = {figure.name.partition(".")[0] for figure in figures}
    kept = {name: value for name, value in kept.items() if name.partition(".")[0] not in replaced}
    for figure in figures:
        kept[figure.name] = {
            "value": round(figure.value, 4),
            "unit": figure.unit,
            "target": figure.target,
            "met": figure.met,
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def conclude(figures: Sequence[Figure], what: str, *, strict: bool) -> int:
    """Print the table on stdout; return the exit status, which is 1 for a miss where it counts."""
    sys.stdout.write(f"{os.cpu_count()} cores; {what}\n\n{table(figures)}\n")
    missed = any(figure.met is False for figure in figures)
    return EXIT_MISSED if missed and strict else 0
