"""The group of all commands, and how one is added to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click

from videoexport.cli.arguments import SourceType
from videoexport.cli.session import Session, session_options, with_session

P = ParamSpec("P")
Command = Callable[Concatenate[Session, P], Awaitable[None]]

_SOURCES = """\b
SOURCE is one of
  talk.mp4              a file on this machine; it is uploaded first
  vid_4f0c…             a video that was uploaded before
  s3://bucket/key.mp4   an object in a bucket that the operators allow
"""


@click.group(
    epilog="""\b
Examples:
  videoexport export talk.mp4 --segment 0:10-0:15.5 --segment 60-75 --output cut.mp4
  videoexport list
  videoexport watch exp_0123456789abcdef0123456789abcdef

\b
Exit status:
  0  done
  1  the command line met an error of its own
  2  wrong arguments, or a file here cannot be read or written
  3  refused: not valid, over a quota, or not found
  4  the export failed or was cancelled
  5  the service cannot be reached or cannot work now, or a transfer failed
  130  interrupted by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP
""",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@session_options
@click.version_option(package_name="videoexport")
def cli() -> None:
    """Cut segments out of a video and get one finished MP4."""


def command(name: str, *examples: str) -> Callable[[Command[P]], click.Command]:
    """Add an async function to the command line; its help ends with `examples`."""

    def add(function: Command[P]) -> click.Command:
        lines = "\n".join(f"  videoexport {example}" for example in examples)
        register = cli.command(name, epilog=f"\b\nExamples:\n{lines}")
        return register(session_options(with_session(function)))

    return add


def source_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument SOURCE, and say in the help what it may be."""
    function.__doc__ = f"{function.__doc__}\n\n{_SOURCES}"
    return click.argument("source", type=SourceType(), metavar="SOURCE")(function)


def export_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument ID, of an export."""
    return click.argument("export_id", metavar="ID")(function)


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --output and --force."""
    output = click.option(
        "--output",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Download the result to FILE, or into the directory FILE. A FILE that is named for "
        "another format is refused.",
    )
    force = click.option("--force", is_flag=True, help="Replace FILE if it exists.")
    return output(force(function))
