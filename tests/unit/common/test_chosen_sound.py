"""Which of a source's sounds an output has."""

from __future__ import annotations

import pytest

from services.common.errors import DomainError, Reason
from services.common.planner import misfits, plan_export
from services.common.sound import LEFT, RIGHT, pair_of, stream_violations, with_sound_of
from videoexport.v1 import export_pb2 as pb


def sound(
    index: int, layout: str = "stereo", language: str = "", title: str = ""
) -> pb.AudioStream:
    channels = 1 if layout in (LEFT, RIGHT, "mono") else 2
    return pb.AudioStream(
        index=index,
        codec="aac",
        channels=channels,
        channel_layout=layout,
        language=language,
        title=title,
    )


def source(*streams: pb.AudioStream, default: int = 0) -> pb.SourceInfo:
    info = pb.SourceInfo(
        video=pb.VideoStream(
            frame_rate=pb.Rational(numerator=25, denominator=1),
            frame_count=250,
            width=1280,
            height=720,
        ),
        audio_streams=streams,
    )
    if streams:
        info.audio.CopyFrom(streams[default])
    return info


def test_sound_is_of_the_default_stream_unless_another_is_asked_for() -> None:
    info = source(sound(1), sound(2, language="deu"), default=1)
    assert plan_export(info, (), pb.ExportSettings()).audio_stream == 2
    assert plan_export(info, (), pb.ExportSettings(audio_stream=1)).audio_stream == 1


def test_source_without_sound_has_no_stream_and_no_loudness() -> None:
    plan = plan_export(source(), (), pb.ExportSettings(loudness_lufs=-16))
    assert not plan.has_audio
    assert not plan.HasField("audio_stream")
    assert not plan.HasField("loudness_lufs")


def test_loudness_is_that_which_is_asked_for() -> None:
    info = source(sound(1))
    assert plan_export(info, (), pb.ExportSettings(loudness_lufs=-16.5)).loudness_lufs == -16.5
    assert not plan_export(info, (), pb.ExportSettings()).HasField("loudness_lufs")


def test_stream_that_is_not_there_is_refused_with_what_is_there() -> None:
    info = source(sound(1, "5.1", "eng"), sound(3, language="pt-BR", title="Dublagem"))
    wrong = pb.ExportSettings(audio_stream=2)
    with pytest.raises(DomainError) as refused:
        plan_export(info, (), wrong)
    assert refused.value.reason is Reason.INVALID_REQUEST
    assert refused.value.message == (
        "settings.audio_stream: the source has no audio stream 2; "
        "there is 1 (aac, 5.1, eng); 3 (aac, stereo, pt-BR, Dublagem)"
    )
    # CreateExport lists it beside everything else that is wrong.
    assert misfits(info, (), wrong) == stream_violations(info, wrong)
    [none] = stream_violations(source(), wrong)
    assert none.description == "the source has no audio stream 2; there is none"
    [many] = stream_violations(source(*(sound(index) for index in range(3, 60))), wrong)
    assert many.description.endswith("10 (aac, stereo); 49 more")


def test_stream_and_segments_that_do_not_fit_are_listed_together() -> None:
    late = pb.Segment()
    late.start_time.FromSeconds(20)
    late.end_time.FromSeconds(21)
    with pytest.raises(DomainError) as refused:
        plan_export(source(sound(1)), [late], pb.ExportSettings(audio_stream=7))
    assert refused.value.reason is Reason.INVALID_REQUEST
    fields = [item.field for item in refused.value.violations]
    assert fields == ["segments[0].start_time", "segments[0].end_time", "settings.audio_stream"]


def test_source_that_a_version_of_before_examined_has_the_stream_it_told_of() -> None:
    info = source()
    info.audio.CopyFrom(sound(1))
    assert plan_export(info, (), pb.ExportSettings(audio_stream=1)).audio_stream == 1
    assert stream_violations(info, pb.ExportSettings(audio_stream=2))


def test_task_knows_the_sound_of_its_plan_alone() -> None:
    info = source(sound(1), sound(2, language="deu"), sound(3))
    chosen = with_sound_of(info, pb.Plan(audio_stream=2))
    assert chosen.audio == sound(2, language="deu")
    assert not chosen.audio_streams
    # Index 0 is a stream as any other.
    first = source(sound(1), sound(0, language="deu"))
    assert with_sound_of(first, pb.Plan(audio_stream=0)).audio.language == "deu"


def test_left_and_right_of_a_pair_are_one_sound() -> None:
    info = source(
        sound(1, LEFT),
        sound(2, "stereo"),
        sound(3, RIGHT),
        sound(4, RIGHT),
        sound(5, LEFT),
        sound(6, LEFT),
    )
    pairs = {1: (1, 3), 2: None, 3: (1, 3), 4: (5, 4), 5: (5, 4), 6: None}
    for index, pair in pairs.items():
        chosen = with_sound_of(info, pb.Plan(audio_stream=index))
        assert pair_of(chosen) == pair, index
        assert chosen.audio.index == index
        assert [each.index for each in chosen.audio_streams] == sorted(pair or ())


def test_sides_of_several_languages_are_pairs_of_their_own() -> None:
    info = source(
        sound(1, LEFT, "eng"), sound(2, LEFT, "deu"), sound(3, RIGHT, "eng"), sound(4, RIGHT, "deu")
    )
    assert pair_of(info) == (1, 3)
    assert pair_of(with_sound_of(info, pb.Plan(audio_stream=4))) == (2, 4)
