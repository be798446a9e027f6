"""What the figures of exports in parts make of what they have measured."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from bench import chunked, edit, eta, kill, sources
from bench.chunked import Made
from bench.edit import Cost
from bench.eta import Watched
from bench.kill import TaskRuns
from bench.quality import Quality
from bench.report import Figure

WHOLE = Made(
    *(100.0, 200.0, 210.0, 0, 10_000),
    frames=7500,
    quality=Quality(ssim=0.99, vmaf=95.0),
    complaints=[],
)


def met(figures: list[Figure]) -> dict[str, bool]:
    """Return which targets are met, by name."""
    return {figure.name: figure.met for figure in figures if figure.met is not None}


def test_parts_that_differ_as_little_as_they_may_meet_every_target() -> None:
    parts = replace(
        WHOLE, cpu=216, parts=38, size_bytes=10_099, quality=Quality(ssim=0.98951, vmaf=94.41)
    )
    assert set(met(chunked.figures(WHOLE, parts)).values()) == {True}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("chunked", {"cpu": 217}),
        ("chunked.size", {"size_bytes": 10_102}),
        ("chunked.size", {"size_bytes": 9_898}),
        ("chunked.ssim_loss", {"quality": Quality(ssim=0.9894, vmaf=95.0)}),
        ("chunked.vmaf_loss", {"quality": Quality(ssim=0.99, vmaf=94.3)}),
        ("chunked.frames_off", {"frames": 7499}),
        ("chunked.warnings", {"complaints": ["late SEI"]}),
    ],
)
def test_parts_that_differ_too_much_miss_that_target_alone(
    name: str, changed: dict[str, object]
) -> None:
    parts = replace(WHOLE, parts=38, **changed)  # type: ignore[arg-type]
    missed = [target for target, ok in met(chunked.figures(WHOLE, parts)).items() if not ok]
    assert missed == [name]


def test_first_cut_is_ten_minutes_in_twelve_segments_inside_the_source() -> None:
    segments = edit.first_cut()
    assert len(segments) == 12
    assert sum(end - start for start, end in segments) == pytest.approx(600)
    assert segments[-1][1] < sources.TWELVE_MINUTES_S
    # In order and apart, so that no frame is in two of them.
    assert all(end < start for (_, end), (start, _) in pairwise(segments))


def test_edits_change_one_end_and_two_places() -> None:
    segments = edit.first_cut()
    for place, seconds in edit.MOVES:
        moved = edit.with_end_moved(segments, place, seconds)
        assert [index for index in range(12) if moved[index] != segments[index]] == [place]
        assert moved[place][0] == segments[place][0]
        assert moved[place][1] == pytest.approx(segments[place][1] + seconds)
    for one, other in edit.SWAPS:
        swapped = edit.with_two_swapped(segments, one, other)
        assert sorted(swapped) == segments
        assert [index for index in range(12) if swapped[index] != segments[index]] == [one, other]


def test_edits_are_told_as_medians_in_percent_of_the_first_export() -> None:
    first = Cost(wall=400, cpu=700, encoder_cpu=720, reused=0)
    moved = [replace(first, cpu=cpu, wall=30) for cpu in (42, 28, 300)]
    reordered = [replace(first, cpu=cpu, wall=10) for cpu in (15, 15, 7)]
    figures = edit.figures(first, moved, reordered)
    values = {figure.name: figure.value for figure in figures}
    assert values["edit"] == pytest.approx(6)
    assert values["edit.time"] == pytest.approx(7.5)
    assert values["edit.reordered"] == pytest.approx(100 * 15 / 700)
    assert met(figures) == {"edit": True, "edit.time": True, "edit.reordered": False}


def test_frames_encoded_again_are_those_of_chunks_begun_more_than_once() -> None:
    tasks = [
        TaskRuns("VIDEO", 200, 1),
        TaskRuns("VIDEO", 180, 2),
        TaskRuns("VIDEO", 250, 0),
        TaskRuns("VIDEO", 210, 3),
        TaskRuns("AUDIO", 150, 2),
        TaskRuns("ASSEMBLE", 60, 1),
    ]
    assert kill.encoded_again(tasks) == (180 + 2 * 210, 250)
    assert kill.lost_runs(tasks) == 4


def test_error_of_an_eta_is_that_of_the_total_it_promised() -> None:
    watched = Watched([(1.0, 99.0), (40.0, 40.0), (60.0, 60.0), (75.0, 5.0)], total=100.0)
    assert watched.error(0.25) == pytest.approx(0)
    # The newest until then, and too little is as wrong as too much.
    assert watched.error(0.5) == pytest.approx(0.2)
    assert watched.error(0.6) == pytest.approx(0.2)
    assert watched.error(0.75) == pytest.approx(0.2)


def test_eta_that_was_never_told_is_wrong_by_all() -> None:
    assert Watched([(60.0, 40.0)], total=100.0).error(0.5) == 1


def test_eta_is_judged_by_the_median_at_half_way() -> None:
    exports = [Watched([(0.0, eta)], total=100.0) for eta in (100, 110, 116, 90, 300)]
    figures = eta.figures(exports)
    assert met(figures) == {"eta": True}
    assert figures[0].value == pytest.approx(10)
    [worst] = [figure.value for figure in figures if figure.name == "eta.worst_half"]
    assert worst == pytest.approx(200)
