"""Scratch folders: private, gone with their run, and cleared of what a killed encoder left."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from services.common.config import StartupError
from services.common.errors import DomainError, Reason
from services.encoder.scratch import prepare_scratch, scratch


def leave_run(own: Path, run_id: str) -> Path:
    """Leave what an encoder leaves that is killed in the middle of a run."""
    own.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = own / run_id
    folder.mkdir()
    (folder / "output.mp4").write_bytes(b"half a file")
    return folder


def test_start_removes_what_a_killed_predecessor_left_and_nothing_of_a_sibling(
    tmp_path: Path,
) -> None:
    dead = [leave_run(tmp_path / "encoder-1", name) for name in ("run_1", "run_2")]
    live = leave_run(tmp_path / "encoder-2", "run_3")
    other = tmp_path / "encoder-1" / "notes.txt"
    other.write_text("not of a run")
    prepare_scratch(tmp_path / "encoder-1")
    assert not any(folder.exists() for folder in dead)
    assert (live / "output.mp4").read_bytes() == b"half a file"
    assert other.exists()


def test_start_makes_a_private_folder(tmp_path: Path) -> None:
    prepare_scratch(tmp_path / "deep" / "encoder-1")
    assert (tmp_path / "deep" / "encoder-1").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["open to others", "a link", "a file"])
def test_folder_that_is_not_private_is_refused_and_not_touched(tmp_path: Path, kind: str) -> None:
    own, elsewhere = tmp_path / "encoder-1", tmp_path / "elsewhere"
    kept = leave_run(elsewhere, "run_1")
    if kind == "a link":
        own.symlink_to(elsewhere)
    elif kind == "a file":
        own.write_text("in the way")
    else:
        elsewhere.rename(own)
        own.chmod(0o755)
        kept = own / "run_1"
    with pytest.raises((StartupError, FileExistsError)):
        prepare_scratch(own)
    assert (kept / "output.mp4").exists()


def test_folder_of_a_run_goes_with_it_whatever_happens(tmp_path: Path) -> None:
    def work() -> None:
        with scratch(tmp_path, "run_1") as folder:
            (folder / "output.mp4").write_bytes(b"half a file")
            raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        work()
    assert list(tmp_path.iterdir()) == []


def test_full_disk_has_its_reason_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DomainError) as failed, scratch(tmp_path, "run_1"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert failed.value.reason is Reason.SCRATCH_FULL
    assert list(tmp_path.iterdir()) == []
