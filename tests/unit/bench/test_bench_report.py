"""What the table and the file of figures hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.report import Figure, merge_json, number, table


def test_merging_replaces_a_figure_with_its_details_and_keeps_the_others(tmp_path: Path) -> None:
    results = tmp_path / "build" / "bench.json"
    merge_json(results, [Figure("cut", 4.0, "×", "≥ 5 ×", False), Figure("cut.old", 1.0, "s")])
    merge_json(results, [Figure("overhead", 0.25, "s")])
    merge_json(results, [Figure("cut", 6.00004, "×", "≥ 5 ×", True), Figure("cut.new", 2.0, "s")])
    assert json.loads(results.read_text()) == {
        "overhead": {"value": 0.25, "unit": "s", "target": None, "met": None},
        "cut": {"value": 6.0, "unit": "×", "target": "≥ 5 ×", "met": True},
        "cut.new": {"value": 2.0, "unit": "s", "target": None, "met": None},
    }


def test_merging_into_a_damaged_file_begins_anew(tmp_path: Path) -> None:
    results = tmp_path / "bench.json"
    results.write_text("{")
    merge_json(results, [Figure("overhead", 0.25, "s")])
    assert list(json.loads(results.read_text())) == ["overhead"]


def test_table_says_which_target_was_missed() -> None:
    lines = table(
        [Figure("fast", 1.0, "s", "≤ 2 s", True), Figure("slow", 3.0, "s", "≤ 2 s", False)]
    )
    assert [line.split()[-1] for line in lines.splitlines()[2:]] == ["yes", "MISSED"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0312, "0.031"), (9.876, "9.876"), (54.32, "54.3"), (4787.4, "4787")]
)
def test_number_keeps_the_digits_that_say_something(value: float, text: str) -> None:
    assert number(value) == text
