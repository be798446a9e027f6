"""Live progress, heard by every replica; the clock is the test's."""

from __future__ import annotations

import pytest

from services.api.progress import FRESH_SECONDS, LiveProgress, phase_of
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def word(
    frames: int,
    *,
    export: str = "exp_1",
    task: str = "tsk_1",
    run: str = "run_1",
    of: int = 100,
    over: bool = False,
    family: pb.EncoderFamily.ValueType = pb.ENCODER_FAMILY_CPU,
) -> task_pb2.TaskProgress:
    return task_pb2.TaskProgress(
        task=pb.RunningTask(
            task_id=task,
            export_id=export,
            frames_done=frames,
            frame_count=of,
            family=family if of else pb.ENCODER_FAMILY_UNSPECIFIED,
            frames_per_second=30,
            speed=1.5,
        ),
        run_id=run,
        over=over,
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
    assert (first.newest, first.frames_done) == (word(20), 20)
    assert (second.newest, second.frames_done) == (word(3, export="exp_2"), 3)


def test_run_that_takes_over_does_not_take_progress_back(progress: LiveProgress) -> None:
    progress.heard(word(60))
    progress.heard(word(1, run="run_2"))
    live = progress.of("exp_1")
    assert live is not None
    assert live.newest == word(1, run="run_2")
    assert live.frames_done == 60
    progress.heard(word(70, run="run_2"))
    assert progress.of("exp_1").frames_done == 70  # type: ignore[union-attr]


def test_done_is_never_more_than_all_and_nothing_without_frames(progress: LiveProgress) -> None:
    progress.heard(word(120))
    assert progress.of("exp_1").frames_done == 100  # type: ignore[union-attr]
    progress.heard(word(5, export="exp_2", of=0))
    assert progress.of("exp_2").frames_done == 0  # type: ignore[union-attr]


def test_tasks_of_an_export_add_up_and_only_what_runs_has_a_speed(progress: LiveProgress) -> None:
    progress.heard(word(100, task="tsk_1", over=True))
    progress.heard(word(40, task="tsk_2"))
    progress.heard(word(30, task="tsk_3"))
    live = progress.of("exp_1")
    assert live is not None
    assert (live.frames_done, live.frames_per_second, live.speed) == (170, 60, 3)


def test_finished_task_counts_however_long_the_export_goes_on(
    progress: LiveProgress, clock: Clock
) -> None:
    progress.heard(word(100, task="tsk_1", over=True))
    clock.now += FRESH_SECONDS + 1
    progress.heard(word(1, task="tsk_2"))
    progress.forget_old()
    assert progress.of("exp_1").frames_done == 101  # type: ignore[union-attr]


def test_word_of_pictures_is_told_before_that_of_the_sound(
    progress: LiveProgress, clock: Clock
) -> None:
    progress.heard(word(40, task="tsk_1"))
    clock.now += 1
    progress.heard(word(0, task="tsk_sound", of=0))
    assert progress.of("exp_1").newest.task.task_id == "tsk_1"  # type: ignore[union-attr]
    progress.heard(word(100, task="tsk_1", over=True))
    assert progress.of("exp_1").newest.task.task_id == "tsk_sound"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        (pb.TASK_KIND_VIDEO, pb.EXPORT_PHASE_ENCODING),
        (pb.TASK_KIND_AUDIO, pb.EXPORT_PHASE_ENCODING),
        (pb.TASK_KIND_WHOLE, pb.EXPORT_PHASE_UPLOADING),
        (pb.TASK_KIND_ASSEMBLE, pb.EXPORT_PHASE_UPLOADING),
    ],
)
def test_export_is_encoding_while_its_parts_are_stored(
    kind: pb.TaskKind.ValueType, phase: pb.ExportPhase.ValueType
) -> None:
    task = pb.RunningTask(kind=kind, phase=pb.EXPORT_PHASE_UPLOADING)
    assert phase_of(task) == phase


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


def test_frames_of_the_gpu_do_not_count_once_the_cpu_makes_them_again(
    progress: LiveProgress,
) -> None:
    gpu = pb.ENCODER_FAMILY_NVENC
    progress.heard(word(100, family=gpu, over=True))
    progress.heard(word(40, task="tsk_2", family=gpu))
    # The sound goes on meanwhile, whatever the pictures are made with.
    progress.heard(word(0, task="tsk_sound", of=0))
    assert_done(progress, 140)
    progress.heard(word(10, task="tsk_3"))
    progress.heard(word(0, task="tsk_sound", of=0))
    progress.heard(word(20, task="tsk_4"))
    assert_done(progress, 30)


def assert_done(progress: LiveProgress, frames: int) -> None:
    live = progress.of("exp_1")
    assert live is not None
    assert live.frames_done == frames
