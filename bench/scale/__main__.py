"""Measures the cluster with simulated encoders: python -m bench.scale [--slots 1,8,64,200]."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from bench.report import Figure, conclude, merge_json, say
from bench.scale.figures import figures_of, name_of, statements_of
from bench.scale.measure import RanDry, Scene, observe
from services.local.__main__ import positive, stop_on_signal
from services.local.process import PartFailed
from services.local.supervisor import DirectoryInUse, take_directory

BUILD = Path(__file__).resolve().parents[2] / "build"
RESULTS = BUILD / "bench.json"
# Of two cores, storage takes what the others need at 200 slots: once with it, once without.
SCENES = [Scene(1), Scene(8), Scene(64), Scene(200), Scene(200, storage_aside=True)]
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale",
        description="Run the real cluster with simulated encoders, and see what becomes slow.",
        epilog="docs/scaling.md says what each figure means.",
    )
    parser.add_argument(
        "--slots",
        type=_counts,
        metavar="N,…",
        help="default: 1, 8, 64 and 200, the last once more with --storage-aside",
    )
    parser.add_argument(
        "--seconds", type=positive, default=60, help="length of the window; default: 60"
    )
    parser.add_argument("--replicas", type=positive, default=1, help="of the API; default: 1")
    parser.add_argument(
        "--storage-aside", action="store_true", help="simulate storage too, to see what is next"
    )
    parser.add_argument(
        "--backlog", type=int, default=0, metavar="TASKS", help="have so many chunks wait beside"
    )
    parser.add_argument(
        "--statements", action="store_true", help="print what each SQL statement cost"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    return parser


def _counts(text: str) -> list[int]:
    return [positive(word) for word in text.split(",")]


def _scenes(arguments: argparse.Namespace) -> list[Scene]:
    scenes = SCENES if arguments.slots is None else map(Scene, arguments.slots)
    return [
        replace(
            scene,
            seconds=arguments.seconds,
            replicas=arguments.replicas,
            storage_aside=arguments.storage_aside or scene.storage_aside,
            backlog=arguments.backlog,
        )
        for scene in scenes
    ]


async def run(arguments: argparse.Namespace) -> list[Figure]:
    """Measure one scene after the other; each is kept as soon as it is known."""
    stop_on_signal(asyncio.current_task())
    measured: list[Figure] = []
    folder = BUILD / "bench-scale"
    with take_directory(folder):
        for scene in _scenes(arguments):
            say(f"{name_of(scene)}: starting the cluster")
            seen = await observe(scene, folder / "run")
            figures = figures_of(seen)
            merge_json(RESULTS, figures)
            measured += figures
            if arguments.statements:
                say(statements_of(seen))
    return measured


def main() -> int:
    """Run the command line; return the exit status."""
    arguments = parser().parse_args()
    try:
        figures = asyncio.run(run(arguments))
    except asyncio.CancelledError:
        say("interrupted; everything is stopped")
        return EXIT_INTERRUPTED
    except (DirectoryInUse, PartFailed) as error:
        say(f"the cluster did not start: {error}")
        return EXIT_FAILED
    except RanDry as error:
        say(f"the load was too small: {error}")
        return EXIT_FAILED
    return conclude(figures, "figures of docs/scaling.md", strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
