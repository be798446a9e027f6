"""`python -m services.local.reaper RECORD PID`: ends the children of a killed supervisor.

Its standard input is a pipe that the supervisor, process PID, holds open and never writes
to. The end of that pipe means that the supervisor is gone, in whatever way. After an orderly
stop the record is empty.
"""

from __future__ import annotations

import sys
from pathlib import Path

from services.local.leftovers import end_leftovers


def main() -> int:
    """Wait for the supervisor's end, then end what it left."""
    record, supervisor = Path(sys.argv[1]), int(sys.argv[2])
    sys.stdin.buffer.read()
    end_leftovers(record, supervisor=supervisor)
    return 0


if __name__ == "__main__":
    sys.exit(main())
