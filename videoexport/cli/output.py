"""Where a finished file goes; decided before anything is uploaded."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import click

from videoexport.cli.arguments import LocalFile, SourceArgument
from videoexport.cli.order_options import is_named_otherwise


def output_path(
    output: Path,
    name: str,
    *,
    suffix: str,
    force: bool,
    source: SourceArgument | None = None,
) -> Path:
    """Return the file that `output` means.

    Args:
        output: a file, or a directory in which the file gets a name.
        name: of the file in a directory, without suffix.
        suffix: of its format, with the dot.
        force: whether an existing file may be replaced.
        source: what is exported, where that is known; it is never written over.

    Raises:
        click.UsageError: the file cannot or must not be written there.
    """
    path = output / f"{name}{suffix}" if output.is_dir() else output
    if is_named_otherwise(path, suffix):
        raise click.UsageError(
            f"--output: {path.name} is not named for {suffix[1:]}, which is the format."
        )
    if not path.parent.is_dir():
        raise click.UsageError(f"--output: there is no directory {path.parent}.")
    if not os.access(path.parent, os.W_OK):
        raise click.UsageError(f"--output: {path.parent} cannot be written to.")
    # Also a link that leads nowhere is there, and would give way to the file.
    if os.path.lexists(path):
        if not path.is_file():
            raise click.UsageError(f"--output: {path} is not a file.")
        if isinstance(source, LocalFile) and path.samefile(source.path):
            raise click.UsageError(f"--output: {path} is the source.")
        if not force:
            raise click.UsageError(f"--output: {path} exists; --force replaces it.")
    return path


def output_name(source: SourceArgument) -> str:
    """Return how the export of a source is named in a directory, without suffix."""
    if isinstance(source, LocalFile):
        return f"{source.path.stem}-export"
    if source.WhichOneof("kind") == "video_id":
        return f"{source.video_id}-export"
    return f"{PurePosixPath(source.s3_object.key).stem}-export"
