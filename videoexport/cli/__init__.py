"""The command line: `videoexport --help`."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import NoReturn

from videoexport.cli.signals import Stopped, raise_on_signals, status_of


def main() -> NoReturn:
    """Run the command line with the process's arguments and exit with its status."""
    # gRPC's own log lines say in its terms what our errors say in plain ones.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without some of our characters, such as …, shows others for them.
        sys.stdout.reconfigure(errors="replace")
    try:
        raise_on_signals()
        from videoexport.cli.app import run  # noqa: PLC0415 — after the lines above

        status = run(sys.argv[1:])
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"The command line needs {error.name}: pip install 'videoexport[cli]' brings it.\n"
        )
        sys.exit(1)
    except (KeyboardInterrupt, Stopped) as error:
        # Most of a short command's time goes into the import.
        sys.stderr.write("videoexport: Interrupted.\n")
        status = status_of(error.number if isinstance(error, Stopped) else signal.SIGINT)
    sys.exit(status)
