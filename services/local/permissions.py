"""Lets the system user that runs Postgres reach its files, when root runs the cluster."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from services.local.process import PartFailed

USERADD_TIMEOUT_S = 30


def ensure_system_user(name: str) -> None:
    """Create a system user without home and login, unless it exists; needs root.

    Raises:
        PartFailed: it cannot be created.
    """
    try:
        pwd.getpwnam(name)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=USERADD_TIMEOUT_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise PartFailed(
                f"root cannot run Postgres, and the system user {name} cannot be made: {error}; "
                "run the cluster as an ordinary user"
            ) from error


def give(path: Path, name: str) -> None:
    """Make a file or folder the property of a user."""
    entry = pwd.getpwnam(name)
    os.chown(path, entry.pw_uid, entry.pw_gid)


def open_the_way(path: Path) -> list[Path]:
    """Let everybody pass through the folders above `path`, not list them; return those changed."""
    return [folder for folder in path.resolve().parents if _add_mode(folder, stat.S_IXOTH)]


def make_readable(folder: Path) -> None:
    """Let everybody read a folder with all it holds, and run its programs."""
    for path in _tree(folder):
        mode = path.stat().st_mode
        _add_mode(path, stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _tree(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (path for path in folder.rglob("*") if not path.is_symlink())


def _add_mode(path: Path, wanted: int) -> bool:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & wanted == wanted:
        return False
    path.chmod(mode | wanted)
    return True
