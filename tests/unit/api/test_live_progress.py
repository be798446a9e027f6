"""Live progress, heard by every replica; the clock is the test's."""

from __future__ import annotations

import pytest

from services.api.progress import FRESH_SECONDS, LiveProgress
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def word(
    frames: int, *, export: str = "exp_1", run: str = "run_1", of: int = 100
) -> task_pb2.TaskProgress:
    return task_pb2.TaskProgress(
        task=pb.RunningTask(export_id=export, frames_done=frames, frame_count=of), run_id=run
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> LiveProgress:
    return LiveProgress(clock=clock)


def test_nothing_is_known_before_the_first_word(progress: LiveProgress) -> None:
    assert progress.of("exp_1") is None


def test_newest_word_of_each_export_is_kept(progress: LiveProgress) -> None:
    progress.heard(word(10))
    progress.heard(word(20))
    progress.heard(word(3, export="exp_2"))
    first, second = progress.of("exp_1"), progress.of("exp_2")
    assert first is not None
    assert second is not None
    assert (first.newest, first.done) == (word(20), 0.2)
    assert (second.newest, second.done) == (word(3, export="exp_2"), 0.03)


def test_run_that_takes_over_does_not_take_progress_back(progress: LiveProgress) -> None:
    progress.heard(word(60))
    progress.heard(word(1, run="run_2"))
    live = progress.of("exp_1")
    assert live is not None
    assert live.newest == word(1, run="run_2")
    assert live.done == 0.6
    progress.heard(word(70, run="run_2"))
    assert progress.of("exp_1").done == 0.7  # type: ignore[union-attr]


def test_done_is_never_more_than_all_and_nothing_without_frames(progress: LiveProgress) -> None:
    progress.heard(word(120))
    assert progress.of("exp_1").done == 1.0  # type: ignore[union-attr]
    progress.heard(word(0, export="exp_2", of=0))
    assert progress.of("exp_2").done == 0.0  # type: ignore[union-attr]


def test_old_word_is_not_told(progress: LiveProgress, clock: Clock) -> None:
    progress.heard(word(10))
    clock.now += FRESH_SECONDS
    assert progress.of("exp_1") is not None
    clock.now += 0.001
    assert progress.of("exp_1") is None


def test_old_words_are_forgotten(progress: LiveProgress, clock: Clock) -> None:
    progress.heard(word(10))
    clock.now += FRESH_SECONDS + 1
    progress.heard(word(10, export="exp_2"))
    progress.forget_old()
    clock.now -= FRESH_SECONDS + 1
    assert progress.of("exp_1") is None
    assert progress.of("exp_2") is not None


def test_listeners_are_told_which_export_moves(progress: LiveProgress) -> None:
    told: list[str] = []
    progress.on_progress(told.append)
    progress.on_progress(lambda export_id: told.append(export_id.upper()))
    progress.heard(word(1))
    progress.heard(word(1, export="exp_2"))
    assert told == ["exp_1", "EXP_1", "exp_2", "EXP_2"]
