"""Running the tools, and saying what was looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
# The slowest is the type checker without its cache, beside other work on two cores.
TOOL_SECONDS = 540

REMARKS = pytest.StashKey[list[str]]()


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, its output kept as one text."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        # Make's flags and job server are for its own children.
        env={name: value for name, value in os.environ.items() if name[:4] != "MAKE"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TOOL_SECONDS,
        check=False,
    )


def accepts(*command: str | Path, cwd: Path = ROOT) -> str:
    """Return a command's output; a command that fails fails the test with its own words."""
    done = run(*command, cwd=cwd)
    if done.returncode != 0:
        shown = " ".join(Path(part).name for part in command[:1]) + _rest(command[1:])
        pytest.fail(f"{shown}: exit {done.returncode}\n{done.stdout}", pytrace=False)
    return done.stdout


def _rest(arguments: Sequence[str | Path]) -> str:
    return "".join(f" {argument}" for argument in arguments)


def not_run_here(why: str) -> NoReturn:
    """Skip a check that this machine cannot do; the summary lists it with the reason."""
    pytest.skip(f"not run here: {why}")
