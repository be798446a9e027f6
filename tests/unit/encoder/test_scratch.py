"""Scratch folders: private, gone with their run, and cleared of what a killed encoder left."""

from __future__ import annotations

import asyncio
import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.common.config import StartupError
from services.common.errors import DomainError, Reason
from services.common.health import HealthReporter
from services.common.subjects import Lane
from services.encoder import scratch as scratch_module
from services.encoder.board import Run, TaskBoard
from services.encoder.errors import ScratchFull
from services.encoder.metrics import EncoderMetrics
from services.encoder.scratch import GIB, ScratchSpace, prepare_scratch, scratch
from videoexport.v1 import export_pb2 as pb


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


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        ScratchFull("FFmpeg said so"),
    ],
)
def test_full_disk_has_its_reason_names_the_encoder_and_leaves_nothing(
    tmp_path: Path, error: Exception
) -> None:
    own = tmp_path / "encoder-7"
    with pytest.raises(DomainError) as failed, scratch(own, "run_1"):
        raise error
    assert failed.value.reason is Reason.SCRATCH_FULL
    assert failed.value.message.startswith("The encoder's scratch disk is full: ")
    assert str(tmp_path) not in failed.value.message
    assert list(own.iterdir()) == []


def test_other_error_of_a_file_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), scratch(tmp_path, "run_1"):
        raise PermissionError(errno.EACCES, "Permission denied")


class Disk:
    """What the system says of a disk of 10 GiB; the test says how much is free."""

    def __init__(self) -> None:
        self.free = 5 * GIB
        self.is_there = True

    def usage(self, _: Path) -> SimpleNamespace:
        if not self.is_there:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return SimpleNamespace(free=self.free, total=10 * GIB)


def test_space_says_what_is_full_and_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    monkeypatch.setattr(shutil, "disk_usage", disk.usage)
    monkeypatch.setattr(scratch_module, "LOOK_SECONDS", 0)
    registry = CollectorRegistry()
    space = ScratchSpace(tmp_path / "encoder-7", GIB, EncoderMetrics(registry))
    with capture_logs() as logs:
        assert space.problem() is None
        assert registry.get_sample_value("videoexport_encoder_scratch_free_bytes") == 5 * GIB
        for free in (GIB - 1, GIB // 2):
            disk.free = free
            assert space.problem() is not None
        assert space.problem() == (
            "The encoder's scratch disk is full: 0.5 of its 10.0 GiB are free;"
            " it takes no work before 1.0 GiB are free."
        )
        assert registry.get_sample_value("videoexport_encoder_scratch_full") == 1
        disk.free = GIB
        assert space.problem() is None
        assert registry.get_sample_value("videoexport_encoder_scratch_full") == 0
        disk.is_there = False
        assert "No such file" in str(space.problem())
    assert [entry["event"] for entry in logs] == [
        "taking no work but probes",
        "taking work again",
        "taking no work but probes",
    ]


async def test_health_says_once_that_there_is_no_room_while_the_figures_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    monkeypatch.setattr(shutil, "disk_usage", disk.usage)
    monkeypatch.setattr(scratch_module, "LOOK_SECONDS", 0)
    metrics = EncoderMetrics(CollectorRegistry())
    space = ScratchSpace(tmp_path / "encoder-7", 4 * GIB, metrics)
    board = TaskBoard(dict.fromkeys(Lane, 1), metrics, space.problem)
    looks = 0

    async def check() -> str | None:
        nonlocal looks
        looks += 1
        disk.free -= GIB // 10
        return board.not_ready()

    with capture_logs() as logs:
        health = HealthReporter([], check, interval=0.01)
        await health.start()
        reporting = asyncio.create_task(health.run())
        async with asyncio.timeout(10):
            while looks < 30:
                await asyncio.sleep(0.01)
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
    # A service of another test may be about to end in the same loop, and say so.
    problems = [entry.get("problem", "taking no work but probes") for entry in logs]
    told = [
        entry["event"]
        for entry, problem in zip(logs, problems, strict=True)
        if problem == "taking no work but probes" or "scratch" in problem
    ]
    assert told == ["serving", "taking no work but probes", "not serving"]


def test_space_of_a_real_disk(tmp_path: Path) -> None:
    metrics = EncoderMetrics(CollectorRegistry())
    assert ScratchSpace(tmp_path, 0, metrics).problem() is None
    assert "is full" in str(ScratchSpace(tmp_path, 1 << 62, metrics).problem())


def test_full_disk_refuses_all_but_probes(tmp_path: Path) -> None:
    metrics = EncoderMetrics(CollectorRegistry())
    space = ScratchSpace(tmp_path, 1 << 62, metrics)
    board = TaskBoard(dict.fromkeys(Lane, 1), metrics, space.problem)
    assert [lane for lane in Lane if board.takes(lane)] == [Lane.PROBE]
    with board.slot(Run("run_1", 1, Lane.PROBE, pb.RunningTask())):
        pass
    run = Run("run_2", 1, Lane.CPU, pb.RunningTask())
    with pytest.raises(DomainError) as refused, board.slot(run):
        pytest.fail("there is no room for it")
    assert refused.value.reason is Reason.SCRATCH_FULL
    assert board.running() == []
