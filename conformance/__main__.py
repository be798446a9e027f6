"""Exports every case of the corpus and reads back what came out: python -m conformance."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.report import say
from conformance.report import EXIT_FAILED, as_json, catalogue, page, result, table, write
from conformance.running import Outcome, run_all
from services.local.__main__ import positive, stop_on_signal
from services.local.supervisor import DirectoryInUse, take_directory
from tests.media.recipes import RECIPES, chosen
from tests.media.recipes.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
RESULTS = BUILD / "conformance.json"
PAGE = ROOT / "docs" / "conformance.md"
EXIT_IN_USE = 1
EXIT_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance",
        description="Make a source for every case of tests/media/recipes, export it with the "
        "encoder's real parts, read back what came out, and say whether it is what must come out.",
        epilog="A run of all cases writes docs/conformance.md anew. The exit status is 1 where "
        "a case fails.",
    )
    add = parser.add_argument
    add(
        "--only",
        action="append",
        default=[],
        metavar="CASE",
        help="only a topic, or cases whose names begin so; may be given more than once",
    )
    add("--list", action="store_true", help="say what the cases are, and end")
    add("--json", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    add(
        "--jobs",
        type=positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="cases at the same time; default: one for each core",
    )
    return parser


def clear(folder: Path) -> None:
    """Remove what another run left, clips too: how they are made may have changed since."""
    for left in (*folder.glob("case*"), folder / "clips"):
        shutil.rmtree(left, ignore_errors=True)


async def run(recipes: Sequence[Recipe], *, jobs: int, folder: Path) -> list[Outcome]:
    """Run cases; return what became of each, in their order.

    Raises:
        DirectoryInUse: another run is under way.
        asyncio.CancelledError: interrupted.
    """
    stop_on_signal(asyncio.current_task())
    outcomes: dict[str, Outcome] = {}
    with take_directory(folder):
        await asyncio.to_thread(clear, folder)
        async for outcome in run_all(recipes, folder, jobs=jobs):
            outcomes[outcome.recipe.name] = outcome
            count = f"{len(outcomes):3d}/{len(recipes)}"
            say(f"{count}  {outcome.seconds:5.1f} s  {outcome.recipe.name}: {result(outcome)}")
    return [outcomes[recipe.name] for recipe in recipes]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    line = parser()
    arguments = line.parse_args(argv)
    try:
        recipes = chosen(arguments.only)
    except KeyError as error:
        line.error(f"no case and no topic begins with {error.args[0]}; see --list")
    if arguments.list:
        sys.stdout.write(catalogue(recipes))
        return 0
    try:
        outcomes = asyncio.run(run(recipes, jobs=arguments.jobs, folder=BUILD / "conformance"))
    except asyncio.CancelledError:
        say("interrupted; everything is stopped")
        return EXIT_INTERRUPTED
    except DirectoryInUse as error:
        say(str(error))
        return EXIT_IN_USE
    return conclude(outcomes, json=arguments.json, page_path=PAGE if recipes == RECIPES else None)


def conclude(outcomes: Sequence[Outcome], *, json: Path, page_path: Path | None) -> int:
    """Print and write down what was found; return the exit status.

    Args:
        page_path: of the docs; None leaves it as it is.
    """
    sys.stdout.write(table(outcomes))
    sys.stdout.flush()
    write(json, as_json(outcomes))
    if page_path is not None:
        write(page_path, page(outcomes))
    return 0 if all(outcome.passed for outcome in outcomes) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
