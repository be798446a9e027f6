"""Private folders on the scratch disk, one for each run, gone with it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from services.common.config import StartupError
from services.common.errors import DomainError, Reason
from services.encoder.errors import ScratchFull
from services.encoder.metrics import EncoderMetrics

log = structlog.get_logger()

GIB = 1 << 30
# How long the last look at the disk counts.
LOOK_SECONDS = 0.5
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


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


class ScratchSpace:
    """Whether there is room for another run on the scratch disk.

    Args:
        own: this encoder's folder; its name is the encoder's.
        least_free: bytes that must be free before a run begins.
    """

    def __init__(self, own: Path, least_free: int, metrics: EncoderMetrics) -> None:
        self._own = own
        self._least_free = least_free
        self._metrics = metrics
        self._problem: str | None = None
        self._looked_at = -LOOK_SECONDS

    def problem(self) -> str | None:
        """Return why no run may begin that writes, or None."""
        # Every slot asks, and every heartbeat.
        if time.monotonic() >= self._looked_at + LOOK_SECONDS:
            self._look()
            self._looked_at = time.monotonic()
        return self._problem

    def _look(self) -> None:
        try:
            free = shutil.disk_usage(self._own).free
        except OSError as error:
            free = 0
            problem: str | None = f"The encoder's scratch folder cannot be used: {error.strerror}."
        else:
            problem = None
            if free < self._least_free:
                problem = (
                    f"{full(self._own)}; it takes no work before"
                    f" {self._least_free / GIB:.1f} GiB are free."
                )
        self._metrics.scratch_free.set(free)
        self._metrics.scratch_full.set(problem is not None)
        # Changes alone: the figures in it move all the time.
        if problem is not None and self._problem is None:
            log.warning("taking no work but probes", problem=problem)
        elif problem is None and self._problem is not None:
            log.info("taking work again")
        self._problem = problem


def full(own: Path) -> str:
    """Return a sentence, without its full stop, on a scratch disk that is full."""
    usage = shutil.disk_usage(own)
    return (
        "The encoder's scratch disk is full:"
        f" {usage.free / GIB:.1f} of its {usage.total / GIB:.1f} GiB are free"
    )


@contextmanager
def scratch(own: Path, run_id: str) -> Iterator[Path]:
    """Hold the folder of a run.

    Args:
        own: this encoder's folder; its name is the encoder's.

    Raises:
        DomainError: SCRATCH_FULL, whoever met it: FFmpeg, or we ourselves.
    """
    folder = own / run_id
    try:
        folder.mkdir(parents=True, mode=0o700)
        yield folder
    except (OSError, ScratchFull) as error:
        if isinstance(error, OSError) and error.errno not in _FULL:
            raise
        # Said while the run's files still lie there.
        raise DomainError(Reason.SCRATCH_FULL, f"{full(own)}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
