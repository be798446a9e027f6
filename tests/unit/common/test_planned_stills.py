"""Which still pictures are made of an output."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.checks import settings_violations
from services.common.errors import DomainError
from services.common.planner import duration_of, plan_export
from services.common.stills import (
    MOST_SHEETS,
    STILL_FILES,
    files_of,
    planned_poster,
    planned_sprites,
    still_violations,
    vtt_of,
)
from videoexport.v1 import export_pb2 as pb

RATE = Fraction(25)


def poster(**given: object) -> pb.ExportSettings:
    return pb.ExportSettings(poster=pb.PosterSettings(**given))  # type: ignore[arg-type]


def sprites(**given: object) -> pb.ExportSettings:
    return pb.ExportSettings(sprites=pb.SpriteSettings(**given))  # type: ignore[arg-type]


def test_nothing_is_made_unless_it_is_asked_for() -> None:
    assert planned_poster(pb.ExportSettings(), RATE, 1280, 720) is None
    assert planned_sprites(pb.ExportSettings(), RATE, 100, 1280, 720) is None
    assert files_of(pb.Output()) == []


def test_poster_is_of_the_frame_that_is_shown_at_a_time() -> None:
    exactly = poster(time=duration_of(Fraction(2)))
    assert planned_poster(exactly, RATE, 1280, 720) == pb.PlannedPoster(
        frame=50, width=1280, height=720
    )
    between = poster(time=duration_of(Fraction("2.039")), width=640)
    assert planned_poster(between, RATE, 1280, 720) == pb.PlannedPoster(
        frame=50, width=640, height=360
    )
    larger = planned_poster(poster(width=4000), RATE, 854, 480)
    assert larger == pb.PlannedPoster(width=854, height=480)


def test_poster_beyond_the_end_is_refused() -> None:
    assert still_violations(poster(time=duration_of(Fraction("3.999"))), RATE, 100) == []
    [violation] = still_violations(poster(time=duration_of(Fraction(4))), RATE, 100)
    assert (violation.field, violation.description) == (
        "settings.poster.time",
        "is beyond the end; the output ends at 4.000 s",
    )


def test_sprites_are_small_pictures_of_the_usual_kind() -> None:
    planned = planned_sprites(sprites(), RATE, 25 * 95, 1280, 720)
    assert planned == pb.PlannedSprites(
        interval_frames=250,
        tile_count=10,
        columns=10,
        tile_width=160,
        tile_height=90,
        sheet_count=1,
    )
    high = planned_sprites(sprites(columns=2, tile_width=100), RATE, 25 * 95, 720, 1280)
    assert high is not None
    assert (high.tile_width, high.tile_height, high.sheet_count) == (56, 100, 3)


@given(st.integers(1, 24 * 3600 * 60), st.integers(1, 20))
def test_sheets_are_always_enough_by_default(frames: int, columns: int) -> None:
    planned = planned_sprites(sprites(columns=columns), Fraction(60), frames, 1280, 720)
    assert planned is not None
    assert 1 <= planned.sheet_count <= MOST_SHEETS
    assert (planned.tile_count - 1) * planned.interval_frames < frames
    assert planned.tile_count * planned.interval_frames >= frames
    assert (planned.sheet_count - 1) * columns**2 < planned.tile_count


def test_interval_that_makes_too_many_sheets_is_refused() -> None:
    one = sprites(interval=duration_of(Fraction(1)), columns=5)
    assert still_violations(one, RATE, 25 * 500) == []
    [violation] = still_violations(one, RATE, 25 * 501)
    assert violation.description == "would make 21 sheets; at most 20 are made"
    info = pb.SourceInfo(
        video=pb.VideoStream(
            frame_rate=pb.Rational(numerator=25, denominator=1),
            frame_count=25 * 501,
            width=1280,
            height=720,
        )
    )
    with pytest.raises(DomainError, match="21 sheets"):
        plan_export(info, (), one)
    assert plan_export(info, (), sprites()).sprites.tile_count == 51


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        (poster(width=15), ["poster.width"]),
        (poster(time=duration_of(Fraction(-1))), ["poster.time"]),
        (sprites(interval=duration_of(Fraction(1, 2))), ["sprites.interval"]),
        (sprites(interval=duration_of(Fraction(601))), ["sprites.interval"]),
        (sprites(columns=21), ["sprites.columns"]),
        (sprites(tile_width=31), ["sprites.tile_width"]),
        (sprites(columns=20, tile_width=205), ["sprites.columns"]),
        (sprites(columns=-1), ["sprites.columns"]),
        (sprites(columns=20, tile_width=204, interval=duration_of(Fraction(1))), []),
        (poster(width=16, time=duration_of(Fraction(0))), []),
    ],
)
def test_settings_have_limits(settings: pb.ExportSettings, fields: list[str]) -> None:
    found = [violation.field for violation in settings_violations(settings)]
    assert found == [f"settings.{name}" for name in fields]


def test_file_says_which_tile_is_shown_when() -> None:
    planned = planned_sprites(
        sprites(columns=2, tile_width=160), Fraction(30000, 1001), 1600, 1280, 720
    )
    assert planned is not None
    assert vtt_of(planned, Fraction(30000, 1001), 1600) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:10.010\nsprites-1.jpg#xywh=0,0,160,90\n\n"
        "00:00:10.010 --> 00:00:20.020\nsprites-1.jpg#xywh=160,0,160,90\n\n"
        "00:00:20.020 --> 00:00:30.030\nsprites-1.jpg#xywh=0,90,160,90\n\n"
        "00:00:30.030 --> 00:00:40.040\nsprites-1.jpg#xywh=160,90,160,90\n\n"
        "00:00:40.040 --> 00:00:50.050\nsprites-2.jpg#xywh=0,0,160,90\n\n"
        "00:00:50.050 --> 00:00:53.387\nsprites-2.jpg#xywh=160,0,160,90\n"
    )


def test_files_are_those_that_whoever_deletes_them_knows() -> None:
    output = pb.Output(poster=pb.Poster(), sprites=pb.Sprites(sheet_count=MOST_SHEETS))
    assert tuple(files_of(output)) == STILL_FILES
    assert files_of(pb.Output(sprites=pb.Sprites(sheet_count=1))) == [
        "sprites.vtt",
        "sprites-1.jpg",
    ]
