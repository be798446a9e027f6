"""The command line: `videoexport --help`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line with the process's arguments and exit with its status."""
    # gRPC's own log lines say in its terms what our errors say in plain ones.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from videoexport.cli.app import run  # noqa: PLC0415 — after the line above
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"The command line needs {error.name}: pip install 'videoexport[cli]' brings it.\n"
        )
        sys.exit(1)
    sys.exit(run(sys.argv[1:]))
