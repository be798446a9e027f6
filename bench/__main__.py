"""Measures speed beside named alternatives: python -m bench [figure…]."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bench import create_rate, overhead, resources, single_pass, sparse_cut, watch_fanout
from bench.report import Figure, merge_json, say, table
from bench.stage import Stage, stage
from services.local.__main__ import stop_on_signal
from services.local.process import PartFailed
from services.local.supervisor import DirectoryInUse

BUILD = Path(__file__).resolve().parents[1] / "build"
RESULTS = BUILD / "bench.json"
EXIT_MISSED = 1
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

# In this order: memory is what a service has ever held, so before the load figures.
FIGURES: dict[str, Callable[[Stage], Awaitable[list[Figure]]]] = {
    "single_pass": single_pass.measure,
    "sparse_cut": sparse_cut.measure,
    "overhead": overhead.measure,
    "memory": resources.measure,
    "create_rate": create_rate.measure,
    "watch_fanout": watch_fanout.measure,
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure speed beside named alternatives, in one run on this machine.",
        epilog="docs/bench.md says what each figure means.",
    )
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help=f"default: all of {', '.join(FIGURES)}"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    return parser


async def run(names: Sequence[str]) -> list[Figure]:
    """Measure the figures on one cluster; each is kept as soon as it is known."""
    stop_on_signal(asyncio.current_task())
    measured: list[Figure] = []
    async with stage(BUILD / "bench") as ready:
        for name in names:
            began = time.monotonic()
            figures = await FIGURES[name](ready)
            merge_json(RESULTS, figures)
            measured += figures
            say(f"{name}: {time.monotonic() - began:.0f} s")
    return measured


def main() -> int:
    """Run the command line; return the exit status."""
    arguments = parser().parse_args()
    if unknown := set(arguments.figures) - set(FIGURES):
        parser().error(f"no such figure: {', '.join(sorted(unknown))}")
    chosen = [name for name in FIGURES if not arguments.figures or name in arguments.figures]
    try:
        figures = asyncio.run(run(chosen))
    except asyncio.CancelledError:
        say("interrupted; everything is stopped")
        return EXIT_INTERRUPTED
    except (DirectoryInUse, PartFailed) as error:
        say(f"the cluster did not start: {error}")
        return EXIT_FAILED
    sys.stdout.write(f"{os.cpu_count()} cores; targets of docs/bench.md\n\n{table(figures)}\n")
    missed = [figure.name for figure in figures if figure.met is False]
    return EXIT_MISSED if missed and arguments.strict else 0


if __name__ == "__main__":
    sys.exit(main())
