"""Injects faults into a real cluster under load, then checks: python -m faults."""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import shutil
import sys
from pathlib import Path

from bench.report import say
from faults.campaign import EVERY_S, Campaign, Orders
from faults.catalogue import FAULTS, chosen
from faults.cluster import FaultCluster
from faults.report import EXIT_VIOLATED, Result, table, write_json
from services.local.__main__ import stop_on_signal
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
shows what is known. The exit status is 1 when anything is violated.
"""


def duration(text: str) -> float:
    """Return minutes, from text such as `90s`, `30m` or `2h`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text} is no duration such as 90s, 30m or 2h")
    return float(found[1]) * {"s": 1 / 60, "m": 1, "": 1, "h": 60}[found[2]]


def fault_names(text: str) -> str:
    """Return what names begin with, from an argument."""
    try:
        chosen([text])
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
    add("--exports", type=int, default=EXPORTS, metavar="N", help=f"at least; default: {EXPORTS}")
    add("--faults", type=int, default=FAULT_COUNT, metavar="N", help=f"default: {FAULT_COUNT}")
    add(
        "--every",
        type=float,
        default=EVERY_S,
        metavar="SECONDS",
        help=f"between two faults; default: {EVERY_S:g}",
    )
    add(
        "--minutes",
        type=duration,
        default=0.0,
        metavar="TIME",
        help="keep the load up for at least so long, such as 10m",
    )
    add("--seed", type=int, help="default: a new one, which is printed")
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


async def run(orders: Orders, *, json: Path, keep: bool) -> Result:
    """Run a campaign on a cluster of its own; write down what it finds, however it ends.

    Raises:
        DirectoryInUse: another campaign is under way.
        PartFailed: the cluster did not start.
    """
    stop_on_signal(asyncio.current_task())
    folder = BUILD / "faults"
    data = folder / "cluster"
    with take_directory(folder):
        shutil.rmtree(data, ignore_errors=True)
        say(f"seed {orders.seed}; starting a cluster")
        try:
            async with FaultCluster(data) as faulty:
                campaign = Campaign(orders, faulty, folder)
                try:
                    return await campaign.run()
                finally:
                    write_json(json, campaign.result)
                    sys.stdout.write(table(campaign.result))
                    sys.stdout.flush()
        finally:
            if not keep:
                shutil.rmtree(data, ignore_errors=True)


def main() -> int:
    """Run the command line; return the exit status."""
    arguments = parser().parse_args()
    if arguments.list:
        sys.stdout.write(catalogue() + "\n")
        return 0
    is_soak = arguments.soak is not None
    orders = Orders(
        seed=secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed,
        exports=0 if is_soak else arguments.exports,
        faults=0 if is_soak else arguments.faults,
        every=arguments.every,
        minutes=arguments.soak if is_soak else arguments.minutes,
        only=arguments.only,
    )
    try:
        result = asyncio.run(run(orders, json=arguments.json, keep=arguments.keep))
    except asyncio.CancelledError:
        say("interrupted; everything is stopped")
        return EXIT_INTERRUPTED
    except (DirectoryInUse, PartFailed) as error:
        say(f"the cluster did not start: {error}")
        return EXIT_FAILED
    return EXIT_VIOLATED if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
