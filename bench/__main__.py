"""Measures speed beside named alternatives: python -m bench [figure…]."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bench import (
    chunked,
    create_rate,
    edit,
    eta,
    fairness,
    kill,
    overhead,
    resources,
    single_pass,
    smart_copy,
    sparse_cut,
    two_encoders,
    watch_fanout,
)
from bench.report import Figure, conclude, merge_json, say
from bench.stage import Shape, Stage, stage
from services.local.__main__ import stop_on_signal
from services.local.process import PartFailed
from services.local.supervisor import DirectoryInUse, take_directory

BUILD = Path(__file__).resolve().parents[1] / "build"
RESULTS = BUILD / "bench.json"
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

# On one cluster; in this order: memory is what a service has ever held, so before the load
# figures. No export is longer than a minute, so all are made in one run of FFmpeg.
SHARED: dict[str, Callable[[Stage], Awaitable[list[Figure]]]] = {
    "single_pass": single_pass.measure,
    "sparse_cut": sparse_cut.measure,
    "overhead": overhead.measure,
    "memory": resources.measure,
    "create_rate": create_rate.measure,
    "watch_fanout": watch_fanout.measure,
}
# Each on clusters of its own, below the folder that it is given.
OWN: dict[str, Callable[[Path], Awaitable[list[Figure]]]] = {
    "chunked": chunked.measure,
    "two_encoders": two_encoders.measure,
    "edit": edit.measure,
    "smart_copy": smart_copy.measure,
    "kill": kill.measure,
    "fairness": fairness.measure,
    "eta": eta.measure,
}
NAMES = (*SHARED, *OWN)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure speed beside named alternatives, in one run on this machine.",
        epilog="docs/bench.md says what each figure means.",
    )
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help=f"default: all of {', '.join(NAMES)}"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    return parser


async def run(names: Sequence[str]) -> list[Figure]:
    """Measure figures; each is kept as soon as it is known.

    Raises:
        DirectoryInUse: another run is under way.
    """
    stop_on_signal(asyncio.current_task())
    folder = BUILD / "bench"
    measured: list[Figure] = []

    async def measure(name: str, figures: Awaitable[list[Figure]]) -> None:
        began = time.monotonic()
        known = await figures
        merge_json(RESULTS, known)
        measured.extend(known)
        say(f"{name}: {time.monotonic() - began:.0f} s")

    # Until the end, and of the folder: a cluster's own lock is removed with its data.
    with take_directory(folder):
        if shared := [name for name in names if name in SHARED]:
            async with stage(folder, Shape()) as ready:
                for name in shared:
                    await measure(name, SHARED[name](ready))
        for name in names:
            if name in OWN:
                await measure(name, OWN[name](folder))
    return measured


def main() -> int:
    """Run the command line; return the exit status."""
    arguments = parser().parse_args()
    if unknown := set(arguments.figures) - set(NAMES):
        parser().error(f"no such figure: {', '.join(sorted(unknown))}")
    chosen = [name for name in NAMES if not arguments.figures or name in arguments.figures]
    try:
        figures = asyncio.run(run(chosen))
    except asyncio.CancelledError:
        say("interrupted; everything is stopped")
        return EXIT_INTERRUPTED
    except (DirectoryInUse, PartFailed) as error:
        say(f"the cluster did not start: {error}")
        return EXIT_FAILED
    return conclude(figures, "targets of docs/bench.md", strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
