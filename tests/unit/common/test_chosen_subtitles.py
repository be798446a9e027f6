"""Which of a source's subtitles an output has."""

from __future__ import annotations

import pytest

from services.common.checks import settings_violations
from services.common.errors import DomainError, Reason
from services.common.examined import knows_enough
from services.common.planner import misfits, plan_export
from services.common.subtitles import burnt_stream, subtitle_violations
from videoexport.v1 import export_pb2 as pb

INFO = pb.SourceInfo(
    video=pb.VideoStream(
        frame_rate=pb.Rational(numerator=25, denominator=1),
        frame_count=250,
        width=1280,
        height=720,
    ),
    subtitle_streams=[
        pb.SubtitleStream(
            index=2, codec="srt", language="deu", title="Alle", text=True, forced=True
        ),
        pb.SubtitleStream(index=3, codec="pgssub"),
    ],
    metadata=pb.SourceMetadata(),
)


def wanted(
    stream: int, mode: pb.SubtitleMode.ValueType = pb.SUBTITLE_MODE_UNSPECIFIED
) -> pb.ExportSettings:
    return pb.ExportSettings(subtitles=pb.SubtitleSettings(stream=stream, mode=mode))


def test_subtitles_are_kept_unless_they_are_to_be_drawn() -> None:
    planned = plan_export(INFO, (), wanted(2))
    assert planned.subtitles == pb.PlannedSubtitles(
        stream=2, mode=pb.SUBTITLE_MODE_KEEP, language="deu", title="Alle", forced=True
    )
    assert burnt_stream(planned) is None
    assert burnt_stream(plan_export(INFO, (), wanted(2, pb.SUBTITLE_MODE_BURN_IN))) == 2
    assert not plan_export(INFO, (), pb.ExportSettings()).HasField("subtitles")


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (0, r"no subtitles 0; there is 2 \(srt, deu, Alle\); 3 \(pgssub\)"),
        (3, r"subtitles 3 \(pgssub\) are pictures of text"),
    ],
)
def test_stream_that_cannot_be_had_is_refused_with_the_reason(stream: int, words: str) -> None:
    with pytest.raises(DomainError, match=words) as refused:
        plan_export(INFO, (), wanted(stream))
    assert refused.value.reason is Reason.INVALID_REQUEST
    [violation] = misfits(INFO, (), wanted(stream))
    assert violation.field == "settings.subtitles.stream"


def test_long_list_of_streams_is_cut() -> None:
    many = pb.SourceInfo(subtitle_streams=[pb.SubtitleStream(index=n) for n in range(20)])
    [violation] = subtitle_violations(many, wanted(99))
    assert violation.description.endswith("12 more")
    [violation] = subtitle_violations(pb.SourceInfo(), wanted(1))
    assert violation.description.endswith("there is none")


def test_settings_name_a_stream_and_a_mode() -> None:
    settings = wanted(-1)
    settings.subtitles.mode = 9  # type: ignore[assignment]
    assert [violation.field for violation in settings_violations(settings)] == [
        "settings.subtitles.stream",
        "settings.subtitles.mode",
    ]
    assert settings_violations(wanted(0)) == []


def test_source_that_a_version_of_before_has_examined_is_not_known_enough() -> None:
    before = pb.SourceInfo()
    before.CopyFrom(INFO)
    before.ClearField("metadata")
    assert not knows_enough(before, wanted(2))
    assert knows_enough(INFO, wanted(2))
