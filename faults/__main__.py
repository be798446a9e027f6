"""Injects faults into a real cluster under load, then checks: python -m faults."""

from __future__ import annotations

import argparse
import asyncio
import math
import re
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.report import say
from faults.campaign import EVERY_S, Campaign, Orders
from faults.catalogue import FAULTS, chosen
from faults.cluster import FaultCluster
from faults.report import EXIT_VIOLATED, Result, table, write_json
from services.local.__main__ import positive, stop_on_signal
from services.local.process import PartFailed
from services.local.supervisor import DirectoryInUse, take_directory

BUILD = Path(__file__).resolve().parents[1] / "build"
RESULTS = BUILD / "faults.json"
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
# About eight minutes on two cores.
EXPORTS, FAULT_COUNT = 100, 45
EXAMPLES = """\
examples:
  python -m faults
      100 exports and 45 faults, about eight minutes
  python -m faults --exports 500 --faults 200 --seed 7
      the long run, about 40 minutes
  python -m faults --soak 30m
      no faults: full load for 30 minutes, and by how much the memory of each service grows
  python -m faults --only nats --only encoder-kill --faults 20
      those faults alone whose names begin so
  python -m faults --list
      every fault, and what its recovery is

The same seed orders the same exports and plans the same faults. Ctrl-C ends everything and
shows what is known. The exit status is 1 when anything is violated; data and logs of the
cluster are kept then.
"""


def duration(text: str) -> float:
    """Return minutes, from text such as `90s`, `30m` or `2h`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no duration such as 90s, 30m or 2h")
    return float(found[1]) * {"s": 1 / 60, "m": 1, "": 1, "h": 60}[found[2]]


def count(text: str) -> int:
    """Return a number of at least 0, from an argument."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return number


def seconds(text: str) -> float:
    """Return a time of more than 0, from an argument."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no time of more than 0 seconds")
    return number


def fault_names(text: str) -> str:
    """Return what names begin with, from an argument."""
    try:
        chosen([text] if text else ["no name"])
    except KeyError:
        raise argparse.ArgumentTypeError(f"no fault is called {text}; see --list") from None
    return text


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m faults",
        description="Start a cluster with everything more than once, put exports through it, "
        "inject faults by a seeded schedule, then check that nothing is lost, wrong or left over.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--exports", type=positive, metavar="N", help=f"at least; default: {EXPORTS}")
    add("--faults", type=count, metavar="N", help=f"that have hit; default: {FAULT_COUNT}")
    add(
        "--every",
        type=seconds,
        metavar="SECONDS",
        help=f"between two faults; default: {EVERY_S:g}",
    )
    add(
        "--minutes",
        type=duration,
        metavar="TIME",
        help="keep the load up for at least so long, such as 10m",
    )
    add("--seed", type=int, metavar="N", help="default: a new one, which is printed")
    add("--soak", type=duration, metavar="TIME", help="load without faults, such as 30m")
    add(
        "--only",
        type=fault_names,
        action="append",
        default=[],
        metavar="FAULT",
        help="only faults whose names begin so; may be given more than once",
    )
    add("--list", action="store_true", help="say what every fault is, and end")
    add("--json", type=Path, default=RESULTS, metavar="FILE", help="default: build/faults.json")
    add("--keep", action="store_true", help="keep the data and the logs of the cluster")
    return parser


def catalogue() -> str:
    """Return every fault with what it does and how its recovery is timed."""
    return "\n".join(
        f"{fault.name}\n    {fault.does}\n    recovery: {fault.recovery}"
        + (f"; {fault.limit}" if fault.limit else "")
        for fault in sorted(FAULTS.values(), key=lambda fault: fault.name)
    )


def orders_of(arguments: argparse.Namespace) -> Orders:
    """Return what the arguments ask for.

    Raises:
        ValueError: some contradict each other.
    """
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    if arguments.soak is not None:
        for name in ("exports", "faults", "every", "minutes", "only"):
            if getattr(arguments, name) not in (None, []):
                raise ValueError(f"--soak is load without faults for its time: --{name} says more")
        return Orders(seed=seed, minutes=arguments.soak)
    faults = FAULT_COUNT if arguments.faults is None else arguments.faults
    if not faults and (arguments.only or arguments.every is not None):
        raise ValueError("--faults 0 leaves nothing for --only and --every")
    return Orders(
        seed=seed,
        exports=arguments.exports or EXPORTS,
        faults=faults,
        every=arguments.every or EVERY_S,
        minutes=arguments.minutes or 0.0,
        only=arguments.only,
    )


async def run(orders: Orders, *, json: Path, keep: bool, folder: Path = BUILD / "faults") -> Result:
    """Run a campaign on a cluster of its own; write down what it finds, however it ends.

    Args:
        folder: for the journal, and below `cluster` for data and logs.

    Raises:
        DirectoryInUse: another campaign is under way.
        PartFailed: the cluster did not start.
        asyncio.CancelledError: interrupted before it did.
    """
    stop_on_signal(asyncio.current_task())
    data = folder / "cluster"
    with take_directory(folder):
        shutil.rmtree(data, ignore_errors=True)
        say(f"seed {orders.seed}; starting a cluster")
        async with FaultCluster(data) as faulty:
            campaign = Campaign(orders, faulty, folder)
            result = campaign.result
            try:
                await campaign.run()
            except asyncio.CancelledError:
                say("interrupted; stopping everything")
            finally:
                # What a file cannot take is seen all the same.
                sys.stdout.write(table(campaign.result))
                sys.stdout.flush()
                write_json(json, campaign.result)
        if result.interrupted or result.violations:
            say(f"data and logs of the cluster are in {data}")
        elif not keep:
            shutil.rmtree(data, ignore_errors=True)
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    line = parser()
    arguments = line.parse_args(argv)
    if arguments.list:
        sys.stdout.write(catalogue() + "\n")
        return 0
    try:
        orders = orders_of(arguments)
        # Only at the end is it written to.
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.open("a").close()
    except ValueError as error:
        line.error(str(error))
    except OSError as error:
        line.error(f"{arguments.json} cannot be written to: {error}")
    try:
        result = asyncio.run(run(orders, json=arguments.json, keep=arguments.keep))
    except asyncio.CancelledError:
        say("interrupted; everything is stopped")
        return EXIT_INTERRUPTED
    except (DirectoryInUse, PartFailed) as error:
        say(f"the cluster did not start: {error}")
        return EXIT_FAILED
    return exit_status(result)


def exit_status(result: Result) -> int:
    """Return what a shell is told; a violation that is known counts more than an interruption."""
    if result.violations:
        return EXIT_VIOLATED
    return EXIT_INTERRUPTED if result.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
