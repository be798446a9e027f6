"""The demonstration: a cluster, an upload, an export of three segments, a file.

With --edit one cut is moved then, and the export made again: what was made before is not.

python -m services.local.demo [--edit] [--source PATH] [--output FILE]
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
from services.local.clip import SECONDS, timecode_clip
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
from videoexport.cli.text import table
from videoexport.client import AsyncClient, ExportFailed, VideoExportError
from videoexport.v1 import export_pb2

USER = "demo"
EXIT_FAILED = 1
EXIT_WRONG_ARGUMENTS = 2

# Where the three segments begin, as shares of the source.
STARTS = (0.1, 0.45, 0.8)
LONGEST_SEGMENT = timedelta(seconds=5)
# For an edit they are long enough to be made in many parts, also of a short source.
EDIT_STARTS = (0.02, 0.35, 0.68)
EDIT_LENGTH = 0.3
EDIT_MOVE = timedelta(seconds=2)
EDIT_CLIP_SECONDS = 120
EDIT_SETTINGS = {"api": {"VIDEOEXPORT_API_CHUNK_THRESHOLD_SECONDS": "10"}}


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
        "--edit",
        action="store_true",
        help="move one cut afterwards and export again: only the edit is encoded",
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


def choose_long_segments(duration: timedelta) -> list[tuple[timedelta, timedelta]]:
    """Return three segments that together show most of a source, in whole milliseconds."""
    return [
        (_milliseconds(duration * share), _milliseconds(duration * (share + EDIT_LENGTH)))
        for share in EDIT_STARTS
    ]


def with_cut_moved(
    segments: list[tuple[timedelta, timedelta]],
) -> list[tuple[timedelta, timedelta]]:
    """Return segments of which the second ends two seconds earlier, or half-way if it is short."""
    first, (start, end), *rest = segments
    return [first, (start, _milliseconds(end - min(EDIT_MOVE, (end - start) / 2))), *rest]


def _milliseconds(time: timedelta) -> timedelta:
    return time - time % timedelta(milliseconds=1)


async def demonstrate(
    source: Path | None, output: Path, directory: Path, *, edit: bool = False
) -> None:
    """Run the demonstration and print what came out.

    Raises:
        click.UsageError: the output cannot or must not be written there.
        DirectoryInUse, PartFailed: the cluster did not start.
        VideoExportError: the export did not work.
        OSError: a file cannot be read or written.
    """
    if source is None:
        seconds = EDIT_CLIP_SECONDS if edit else SECONDS
        source = await timecode_clip(directory / "demo", to_stderr, seconds=seconds)
    output.parent.mkdir(parents=True, exist_ok=True)
    output = output_path(output, "demo", suffix=".mp4", force=True, source=LocalFile(source))
    if edit:
        output_path(_edited(output), "demo", suffix=".mp4", force=True, source=LocalFile(source))
    to_stderr("starting NATS, an S3 server, Postgres and the three services")
    began = time.monotonic()
    async with LocalCluster(directory, extra_env=EDIT_SETTINGS if edit else None) as cluster:
        to_stderr(f"the cluster is up after {time.monotonic() - began:.1f} s")
        async with AsyncClient(cluster.api.address, user=USER) as client:
            await (_edit if edit else _show)(client, source, output)
    to_stderr("the cluster is stopped")


async def _show(client: AsyncClient, source: Path, output: Path) -> None:
    """Upload, export, download, and print what came out."""
    with open_display() as display:
        video_id, duration = await _upload(client, source, display)
        ended = await _export(client, video_id, choose_segments(duration), output, display)
        text = summary(ended, output, display.times())
    _print(text)


async def _edit(client: AsyncClient, source: Path, output: Path) -> None:
    """Export, move one cut, export again; print both times and what was reused."""
    with open_display() as display:
        video_id, duration = await _upload(client, source, display)
        segments = choose_long_segments(duration)
        first = await _export(client, video_id, segments, output, display)
    changed = with_cut_moved(segments)
    to_stderr(f"moving the end of the second segment from {segments[1][1]} to {changed[1][1]}")
    edited = _edited(output)
    with open_display() as display:
        second = await _export(client, video_id, changed, edited, display)
    before, after = _seconds(first), _seconds(second)
    rows = [
        _row("first", first, output),
        _row("cut moved", second, edited),
    ]
    columns = ("EXPORT", "FRAMES", "ENCODED", "REUSED", "READY IN", "FILE")
    _print(f"{table(columns, rows)}\nThe edit took {after / before:.0%} of the first time.")


def _edited(output: Path) -> Path:
    """Return where the edited export goes."""
    return output.with_stem(f"{output.stem}-edited")


def _row(name: str, export: export_pb2.Export, file: Path) -> tuple[str, ...]:
    output = export.output
    encoded = output.frame_count - output.reused_frame_count
    share = f"{output.reused_share:.0%}"
    seconds = f"{_seconds(export):.1f} s"
    return name, f"{output.frame_count:,}", f"{encoded:,}", share, seconds, str(file)


def _seconds(export: export_pb2.Export) -> float:
    return (export.end_time.ToDatetime() - export.create_time.ToDatetime()).total_seconds()


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def _upload(
    client: AsyncClient, source: Path, display: ProgressDisplay
) -> tuple[str, timedelta]:
    """Upload the source; return it with its duration."""
    video_id = await client.upload(source, on_progress=display.upload)
    info = await client.probe(video_id)
    return video_id, info.duration.ToTimedelta()


async def _export(
    client: AsyncClient,
    video_id: str,
    segments: list[tuple[timedelta, timedelta]],
    output: Path,
    display: ProgressDisplay,
) -> export_pb2.Export:
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
        await demonstrate(arguments.source, arguments.output, arguments.data, edit=arguments.edit)
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
