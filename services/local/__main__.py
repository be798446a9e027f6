"""Runs a cluster on this machine: python -m services.local up."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

from services.local.cluster import LocalCluster
from services.local.infra import to_stderr
from services.local.process import PartFailed
from services.local.supervisor import DirectoryInUse

EXIT_FAILED = 1
# The default of the client and of the command line.
API_PORT = 50051
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXAMPLES = """\
examples:
  python -m services.local up
      one encoder, data kept in .local; Ctrl-C stops it
  python -m services.local up --encoders 2 --encoder-threads 1
      two encoders that share two cores
  python -m services.local up --data /tmp/trial
      a second cluster beside the first one

The API listens on port 50051, unless that is taken. Where everything listens is in
DIR/cluster.json, the logs are in DIR/logs.
"""


def positive(text: str) -> int:
    """Return a number of at least 1, from an argument."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m services.local",
        description="Run NATS, an S3 server, Postgres and all three services on this machine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True)
    up = commands.add_parser(
        "up",
        help="start the cluster and keep it running until Ctrl-C",
        description="Start the cluster and keep it running until Ctrl-C.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    up.add_argument("--encoders", type=positive, default=1, metavar="N", help="default: 1")
    up.add_argument(
        "--data", type=Path, default=Path(".local"), metavar="DIR", help="default: .local"
    )
    up.add_argument(
        "--encoder-threads",
        type=positive,
        metavar="T",
        help="threads of one encode (default: the encoder chooses)",
    )
    return top


async def up(directory: Path, encoders: int, encoder_threads: int | None) -> int:
    """Run a cluster until a signal comes; return the exit status."""
    stop_on_signal(asyncio.current_task())
    began = time.monotonic()
    try:
        async with LocalCluster(
            directory, encoders=encoders, encoder_threads=encoder_threads, api_port=API_PORT
        ) as cluster:
            sys.stdout.write(
                f"videoexport is up after {time.monotonic() - began:.1f} s: "
                f"api {cluster.api.address}, storage {cluster.storage.address}, "
                f"{encoders} encoder{'s' * (encoders > 1)}, data in {cluster.directory}\n"
            )
            sys.stdout.flush()
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        return 0
    except (DirectoryInUse, PartFailed, OSError) as error:
        to_stderr(f"the cluster did not start: {error}")
        return EXIT_FAILED
    raise AssertionError("waits for ever")


def stop_on_signal(task: asyncio.Task[object] | None) -> list[int]:
    """Cancel a task at the first signal to stop; further ones do not disturb its clean-up.

    Returns:
        The signals that came: empty for now.
    """
    loop = asyncio.get_running_loop()
    came: list[int] = []

    def stop(number: int) -> None:
        if task is not None and not came:
            task.cancel()
        came.append(number)

    for number in STOP_SIGNALS:
        # What nohup starts has SIGHUP ignored, and outlives its terminal.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)
    return came


def main() -> int:
    """Run the command line; return the exit status."""
    arguments = parser().parse_args()
    return asyncio.run(up(arguments.data, arguments.encoders, arguments.encoder_threads))


if __name__ == "__main__":
    sys.exit(main())
