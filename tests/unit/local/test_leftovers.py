"""Processes of a supervisor that is gone: ended if they are surely ours, else left alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from services.local.files import read_json, write_json
from services.local.leftovers import end_leftovers, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pids.json"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as started:
        yield started
        started.kill()


def test_recorded_process_is_ended(path, process):
    record(path, {"part": process.pid})
    assert end_leftovers(path) == ["part"]
    assert process.poll() is not None


@pytest.mark.parametrize(
    "other", [{"started": 12345.0}, {"command": ["another", "program"]}, {"pid": 2**22 - 1}]
)
def test_process_that_took_over_the_id_is_left_alone(path, process, other):
    record(path, {"part": process.pid})
    changed = read_json(path)
    changed["children"]["part"] |= other
    write_json(path, changed)
    assert end_leftovers(path) == []
    assert process.poll() is None


def test_record_of_another_supervisor_is_left_alone(path, process):
    record(path, {"part": process.pid})
    assert end_leftovers(path, supervisor=1) == []
    assert process.poll() is None
    assert end_leftovers(path, supervisor=psutil.Process().pid) == ["part"]


def test_descendants_are_ended_too(path):
    code = (
        "import subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "print(subprocess.Popen(sleep, start_new_session=True).pid, flush=True)\n"
        "time.sleep(60)"
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:
        below = psutil.Process(int(parent.stdout.readline()))
        record(path, {"part": parent.pid})
        end_leftovers(path)
    assert not below.is_running() or below.status() == psutil.STATUS_ZOMBIE


def test_missing_record_means_nothing_is_left(path):
    assert end_leftovers(path) == []
