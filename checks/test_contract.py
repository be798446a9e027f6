"""The protos: style, promises kept to callers, and stubs made from them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from checks.tool import BIN, ROOT, accepts, not_run_here, run

pytestmark = pytest.mark.timeout(600)

STUBS = Path("videoexport/v1")


def test_buf_lint() -> None:
    accepts(BIN / "buf", "lint", "protos")


def test_buf_breaking(tmp_path: Path, remark: Callable[[str], None]) -> None:
    found = baseline()
    if found is None:
        not_run_here("buf breaking needs a commit with a contract to compare with")
    reference, described = found
    archive = subprocess.run(
        ["git", "archive", "--format=tar", reference, "protos"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(tmp_path, filter="data")
    accepts(BIN / "buf", "breaking", "protos", "--against", tmp_path / "protos")
    remark(f"contract compared with {described}")


def test_services_of_the_version_before_can_read_it() -> None:
    # Wire compatibility alone: what callers are promised beside it is compared above.
    previous = ROOT / "tests/fixtures/previous/descriptors.binpb"
    accepts(BIN / "buf", "breaking", "protos", "--against", previous)


def baseline() -> tuple[str, str] | None:
    """Return the commit whose contract must be kept, and what it is; None without history.

    The last release is what callers have. Before the first one it is where this branch left
    main. Without either (main itself, a shallow clone, a main from before the contract) it is
    the last commit, which catches what is not committed yet.
    """
    head = git("rev-parse", "--verify", "HEAD")
    tag = git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    base = git("merge-base", "HEAD", "origin/main")
    candidates = (
        (tag, f"release {tag}"),
        (base if base != head else None, f"main at {base}"),
        (head, "the last commit, as there is no release and no other main"),
    )
    for reference, described in candidates:
        if reference and git("rev-parse", "--verify", f"{reference}:protos"):
            return reference, described
    return None


def git(*arguments: str) -> str | None:
    """Return git's answer, or None where it has none."""
    done = run("git", *arguments)
    return done.stdout.strip() if done.returncode == 0 else None


def test_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    (tmp_path / STUBS).mkdir(parents=True)
    accepts("make", "--silent", "protos", f"STUBS={tmp_path}")
    made = {path.name: path.read_bytes() for path in (tmp_path / STUBS).iterdir()}
    committed = {path.name: path.read_bytes() for path in (ROOT / STUBS).glob("*_pb2*")}
    assert made
    drifted = [name for name in sorted(made | committed) if made.get(name) != committed.get(name)]
    assert drifted == [], "run `make protos` and commit what it makes"
