"""What a run says, what it writes, and its exit status."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conformance import __main__ as command_line
from conformance.__main__ import PAGE, conclude, main
from conformance.checks import Measured
from conformance.report import page, table
from conformance.running import Outcome
from tests.media.frame_codes import Clip
from tests.media.recipes import RECIPES
from tests.media.recipes.recipe import Recipe


def outcome(
    name: str, *problems: str, gpu: tuple[str, ...] | None = (), codes: tuple[str, ...] = ()
) -> Outcome:
    recipe = Recipe(name=name, topic="geometry", source=Clip(frames=1))
    return Outcome(recipe, Measured(problems, 1.25, 0.0021, 3), gpu, 0.5, codes)


GOOD = outcome("turned 90°")
BAD = outcome("turned 180°", "pictures are turned 180°")
BAD_GPU = outcome("a|b", gpu=("the GPU makes other frames",))
REFUSED = outcome("empty", gpu=None, codes=("INVALID_SOURCE",))


def test_status_is_1_where_a_case_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "build" / "conformance.json"
    assert conclude([GOOD, REFUSED], json=results, page_path=None) == 0
    assert conclude([GOOD, BAD], json=results, page_path=None) == 1
    assert conclude([GOOD, BAD_GPU], json=results, page_path=None) == 1
    written = json.loads(results.read_text())
    assert (written["passed"], written["cases"]) == (1, 2)
    assert written["results"][1] == {
        "case": "a|b",
        "topic": "geometry",
        "passed": False,
        "cpu_problems": [],
        "gpu_problems": ["the GPU makes other frames"],
        "codes": [],
        "delta_e": 1.25,
        "largest_av_offset": 0.0021,
        "places_compared": 3,
        "seconds": 0.5,
    }
    assert "1 of 2 cases pass (50.0 %)" in capsys.readouterr().out


def test_table_says_what_is_wrong() -> None:
    lines = table([GOOD, BAD, BAD_GPU, REFUSED]).splitlines()
    words = {line.split("  ")[0]: line.split() for line in lines}
    assert words["turned 90°"][2:] == ["yes", "yes", "1.2", "2.1", "ms", "-", "passes"]
    assert words["turned 180°"][2:5] == ["no", "yes", "1.2"]
    assert "FAILS: pictures are turned 180°" in table([BAD])
    assert words["a|b"][1:3] == ["yes", "no"]
    assert words["empty"][1:3] == ["yes", "-"]
    assert words["empty"][-2] == "INVALID_SOURCE"


def test_page_is_written_by_a_run_of_all_alone(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "conformance.md"
    conclude([GOOD, BAD_GPU], json=tmp_path / "results.json", page_path=path)
    assert path.read_text() == page([GOOD, BAD_GPU])
    assert "| a\\|b | yes | no | 1.2 | 2.1 ms | - | FAILS: the GPU makes other frames |" in page(
        [BAD_GPU]
    )


def test_page_in_the_docs_has_every_case() -> None:
    named = re.findall(r"^\| (.+?) \| (?:yes|no) \|", PAGE.read_text(), flags=re.MULTILINE)
    assert named == [recipe.name.replace("|", "\\|") for recipe in RECIPES], "run make conformance"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--only", "meteor"], "no case and no topic begins with meteor"),
        (["--only", ""], "no case and no topic"),
        (["--jobs", "0"], "not at least 1"),
    ],
)
def test_arguments_that_ask_for_nothing_are_refused(
    argv: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delattr(command_line, "run")
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert words in capsys.readouterr().err


def test_list_names_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {recipe.name}\n" in told for recipe in RECIPES)
    assert main(["--list", "--only", "sound"]) == 0
    assert "turned 90°" not in capsys.readouterr().out
