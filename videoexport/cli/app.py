"""From arguments to an exit status: every error becomes one plain sentence."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress

import click

from videoexport.cli import managing, ordering
from videoexport.cli.group import cli
from videoexport.cli.session import Interrupted
from videoexport.cli.signals import Stopped, status_of
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
INTERRUPTED = status_of(signal.SIGINT)

# The first that fits counts.
_STATUS: tuple[tuple[type[BaseException], int], ...] = (
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
    except (Exception, KeyboardInterrupt, Stopped) as error:
        # A terminal that has gone hears nothing; the status is for others.
        with suppress(OSError):
            _say(error)
        if isinstance(error, Interrupted | Stopped):
            return status_of(error.number)
        return next(status for kind, status in _STATUS if isinstance(error, kind))
    return DONE


def _say(error: BaseException) -> None:
    click.echo(f"videoexport: {plain(_sentence(error))}", err=True)
    if isinstance(error, Refused | ExportFailed) and len(error.violations) > 1:
        for violation in error.violations:
            line = f"  {violation.field}: {violation.description}"
            click.echo(plain(line), err=True)


def _sentence(error: BaseException) -> str:
    match error:
        case click.ClickException():
            return error.format_message()
        case click.Abort() | KeyboardInterrupt() | Stopped():
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
