"""How runs get on, by their words and the test's clock."""

from __future__ import annotations

import pytest

from services.api.progress import FRESH_SECONDS, LiveProgress, Pace
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def word(frames: int, *, run: str = "run_1") -> task_pb2.TaskProgress:
    task = pb.RunningTask(task_id="tsk_1", export_id="exp_1", frames_done=frames, frame_count=100)
    return task_pb2.TaskProgress(task=task, run_id=run)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> LiveProgress:
    return LiveProgress(clock=clock)


def test_pace_of_what_was_not_heard_of_is_not_known(progress: LiveProgress) -> None:
    progress.heard(word(10))
    assert progress.pace("exp_2", "tsk_1") is None
    assert progress.pace("exp_1", "tsk_2") is None


def test_pace_is_counted_from_the_first_word_of_frames(
    progress: LiveProgress, clock: Clock
) -> None:
    progress.heard(word(0))
    clock.now += 3
    progress.heard(word(10))
    clock.now += 2
    progress.heard(word(50))
    clock.now += 1
    expected = Pace(age=6, frame_count=100, frames_done=50, frames=40, seconds=2)
    assert progress.pace("exp_1", "tsk_1") == expected


def test_pace_of_another_run_begins_anew(progress: LiveProgress, clock: Clock) -> None:
    progress.heard(word(60))
    clock.now += 2
    progress.heard(word(20, run="run_2"))
    assert progress.pace("exp_1", "tsk_1") == Pace(age=0, frame_count=100, frames_done=20)
    clock.now += 1
    progress.heard(word(30, run="run_2"))
    pace = progress.pace("exp_1", "tsk_1")
    assert pace is not None
    assert (pace.age, pace.frames, pace.seconds) == (1, 10, 1)


def test_pace_of_a_run_that_is_over_or_silent_is_not_known(
    progress: LiveProgress, clock: Clock
) -> None:
    progress.heard(word(60))
    clock.now += FRESH_SECONDS + 0.001
    assert progress.pace("exp_1", "tsk_1") is None
    over = word(60)
    over.over = True
    progress.heard(over)
    assert progress.pace("exp_1", "tsk_1") is None
