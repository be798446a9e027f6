"""From arguments to an exit status: every error becomes one plain sentence."""

from __future__ import annotations

from collections.abc import Sequence

import click

from videoexport.cli import managing, ordering
from videoexport.cli.group import cli
from videoexport.cli.session import Interrupted
from videoexport.cli.text import plain, waiting_time
from videoexport.client import ExportFailed, LocalFileFailed, Refused, VideoExportError

# Importing these two has added their commands to `cli`.
__all__ = ["managing", "ordering", "run"]

DONE = 0
BROKEN = 1
WRONG_ARGUMENTS = 2
REFUSED = 3
FAILED = 4
UNREACHABLE = 5
# What shells report of a program that SIGINT ended.
INTERRUPTED = 130

# The first that fits counts.
_STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (Interrupted, INTERRUPTED),
    (click.Abort, INTERRUPTED),
    (KeyboardInterrupt, INTERRUPTED),
    (click.ClickException, WRONG_ARGUMENTS),
    (OSError, WRONG_ARGUMENTS),
    (LocalFileFailed, WRONG_ARGUMENTS),
    (Refused, REFUSED),
    (ExportFailed, FAILED),
    (VideoExportError, UNREACHABLE),
    (Exception, BROKEN),
)


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status; what goes wrong is said on stderr."""
    try:
        cli.main(list(arguments), prog_name="videoexport", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return WRONG_ARGUMENTS
    except (Exception, KeyboardInterrupt) as error:
        click.echo(f"videoexport: {plain(_sentence(error))}", err=True)
        if isinstance(error, Refused | ExportFailed) and len(error.violations) > 1:
            for violation in error.violations:
                line = f"  {violation.field}: {violation.description}"
                click.echo(plain(line), err=True)
        return next(status for kind, status in _STATUS if isinstance(error, kind))
    return DONE


def _sentence(error: BaseException) -> str:
    match error:
        case click.ClickException():
            return error.format_message()
        case click.Abort() | KeyboardInterrupt():
            return "Interrupted."
        case Refused(retry_after=delay) if delay is not None:
            return f"{error.message} Try again in {waiting_time(delay)}."
        case Interrupted() | VideoExportError():
            return str(error)
        case OSError():
            subject = f"{error.filename}: " if error.filename else ""
            return f"{subject}{error.strerror or error}."
        case _:
            return f"The command line met an error of its own: {type(error).__name__}: {error}"
