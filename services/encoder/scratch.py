"""Private folders on the scratch disk, one for each run, gone with it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.config import StartupError
from services.common.errors import DomainError, Reason


def prepare_scratch(folder: Path) -> None:
    """Make this encoder's private folder, and remove what a killed predecessor has left in it.

    Raises:
        StartupError: somebody else has made the folder, or can look into it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise StartupError(f"{folder} is not a private folder of this user")
    for leftover in folder.glob("run_*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def scratch(own: Path, run_id: str) -> Iterator[Path]:
    """Hold the folder of a run.

    Args:
        own: this encoder's folder.

    Raises:
        DomainError: SCRATCH_FULL.
    """
    folder = own / run_id
    try:
        folder.mkdir(parents=True, mode=0o700)
        yield folder
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DomainError(Reason.SCRATCH_FULL, "The encoder's scratch disk is full.") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
