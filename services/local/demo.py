"""The demonstration: a cluster, an upload, an export of three segments, a file.

python -m services.local.demo [--source PATH] [--output FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import timedelta
from pathlib import Path

import click

from services.local.__main__ import stop_on_signal
from services.local.clip import timecode_clip
from services.local.cluster import LocalCluster
from services.local.infra import to_stderr
from services.local.process import PartFailed
from services.local.supervisor import DirectoryInUse
from videoexport.cli.arguments import LocalFile
from videoexport.cli.ordering import follow
from videoexport.cli.output import output_path
from videoexport.cli.progress import ProgressDisplay, open_display
from videoexport.cli.render import summary
from videoexport.cli.signals import status_of
from videoexport.client import AsyncClient, ExportFailed, VideoExportError
from videoexport.v1 import export_pb2

USER = "demo"
EXIT_FAILED = 1
EXIT_WRONG_ARGUMENTS = 2

# Where the three segments begin, as shares of the source.
STARTS = (0.1, 0.45, 0.8)
LONGEST_SEGMENT = timedelta(seconds=5)


def existing_file(text: str) -> Path:
    """Return the path of a file, from an argument."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m services.local.demo",
        description="Start a cluster, export three segments of a video with it, and stop it.",
    )
    parser.add_argument(
        "--source",
        type=existing_file,
        metavar="PATH",
        help="a video of your own (default: a test clip)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo-output/demo.mp4"),
        metavar="FILE",
        help="where the result goes, replaced if it exists (default: demo-output/demo.mp4)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(".local/demo"),
        metavar="DIR",
        help="the cluster's data (default: .local/demo)",
    )
    return parser


def choose_segments(duration: timedelta) -> list[tuple[timedelta, timedelta]]:
    """Return three segments that fit into a source of this duration, in whole milliseconds."""
    length = min(LONGEST_SEGMENT, duration / 6)
    return [
        (_milliseconds(duration * share), _milliseconds(duration * share + length))
        for share in STARTS
    ]


def _milliseconds(time: timedelta) -> timedelta:
    return time - time % timedelta(milliseconds=1)


async def demonstrate(source: Path | None, output: Path, directory: Path) -> None:
    """Run the demonstration and print what came out.

    Raises:
        click.UsageError: the output cannot or must not be written there.
        DirectoryInUse, PartFailed: the cluster did not start.
        VideoExportError: the export did not work.
        OSError: a file cannot be read or written.
    """
    if source is None:
        source = await timecode_clip(directory / "demo", to_stderr)
    output.parent.mkdir(parents=True, exist_ok=True)
    output = output_path(output, "demo", force=True, source=LocalFile(source))
    to_stderr("starting NATS, an S3 server, Postgres and the three services")
    began = time.monotonic()
    async with LocalCluster(directory) as cluster:
        to_stderr(f"the cluster is up after {time.monotonic() - began:.1f} s")
        async with AsyncClient(cluster.api.address, user=USER) as client:
            with open_display() as display:
                ended = await _export(client, source, output, display)
            sys.stdout.write(f"{summary(ended, output, display.times())}\n")
            sys.stdout.flush()
    to_stderr("the cluster is stopped")


async def _export(
    client: AsyncClient, source: Path, output: Path, display: ProgressDisplay
) -> export_pb2.Export:
    video_id = await client.upload(source, on_progress=display.upload)
    info = await client.probe(video_id)
    segments = choose_segments(info.duration.ToTimedelta())
    export = await client.create_export(video_id, segments)
    ended = await follow(client, export.id, display)
    if ended.state != export_pb2.EXPORT_STATE_COMPLETED:
        raise ExportFailed(ended)
    await client.download(ended, output, on_progress=display.download)
    return ended


async def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration and return the exit status."""
    signals = stop_on_signal(asyncio.current_task())
    try:
        await demonstrate(arguments.source, arguments.output, arguments.data)
    except asyncio.CancelledError:
        to_stderr("interrupted; everything is stopped")
        return status_of(signals[0])
    except click.UsageError as error:
        to_stderr(error.message)
        return EXIT_WRONG_ARGUMENTS
    except (DirectoryInUse, PartFailed) as error:
        to_stderr(f"the cluster did not start: {error}")
        return EXIT_FAILED
    except (VideoExportError, OSError) as error:
        # With SIGHUP the terminal has gone, and writing to it fails.
        if signals:
            return status_of(signals[0])
        to_stderr(f"the demonstration failed: {error}")
        return EXIT_FAILED
    return 0


def main() -> int:
    """Run the command line; return the exit status."""
    return asyncio.run(run(parser().parse_args()))


if __name__ == "__main__":
    sys.exit(main())
