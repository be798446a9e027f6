"""What goes into the finished file beside pictures and sound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from services.encoder.commands.extras import NO_EXTRAS, Extras, three_letters
from videoexport.v1 import export_pb2 as pb

FOLDER = Path("/scratch")


def test_nothing_to_say_changes_no_command() -> None:
    for extras in (
        NO_EXTRAS,
        Extras.of(pb.Plan(frame_rate=pb.Rational(numerator=25, denominator=1))),
    ):
        assert extras.inputs(FOLDER) == []
        assert extras.scripts(FOLDER) == {}
        assert extras.options(1) == []
        assert extras.described_by(1) == -1


def test_text_cannot_say_more_than_one_thing() -> None:
    told = pb.OutputMetadata(
        tags=[pb.MetadataTag(key="title", value="a=b;c#d\\e\n[CHAPTER]\nSTART=1")]
    )
    extras = Extras(told, Fraction(25))
    assert extras.scripts(FOLDER) == {
        FOLDER / "metadata.txt": ";FFMETADATA1\n"
        "title=a\\=b\\;c\\#d\\\\e\\\n[CHAPTER]\\\nSTART\\=1\n"
    }
    assert extras.inputs(FOLDER) == [
        *("-protocol_whitelist", "file", "-f", "ffmetadata", "-i", "/scratch/metadata.txt"),
    ]
    assert extras.described_by(3) == 3


def test_chapters_are_counted_in_frames_and_leave_no_gap() -> None:
    told = pb.OutputMetadata()
    told.chapters.add(start_frame=10, end_frame=20, title="A")
    told.chapters.add(start_frame=30, end_frame=40)
    extras = Extras(told, Fraction(30000, 1001))
    (text,) = extras.scripts(FOLDER).values()
    chapters = [chapter.split("\n")[1:5] for chapter in text.split("[CHAPTER]")[1:]]
    tick = "TIMEBASE=1001/30000"
    assert chapters == [
        [tick, "START=0", "END=10", "title="],
        [tick, "START=10", "END=20", "title=A"],
        [tick, "START=20", "END=30", "title="],
        [tick, "START=30", "END=40", "title="],
    ]
    assert extras.options(1) == ["-movie_timescale", "30000"]


def test_languages_and_other_tags_are_options() -> None:
    told = pb.OutputMetadata(
        tags=[pb.MetadataTag(key="make", value="M")], video_language="ger", audio_language="pt-BR"
    )
    assert Extras(told, Fraction(25)).options(1) == [
        *("-metadata:s:v:0", "language=ger", "-metadata:s:a:0", "language=por"),
        *("-movflags", "+use_metadata_tags"),
    ]


@pytest.mark.parametrize(
    ("tag", "code"),
    [("deu", "deu"), ("ger", "ger"), ("de", "deu"), ("zh-Hans-CN", "zho"), ("xx", "")],
)
def test_language_has_three_letters(tag: str, code: str) -> None:
    assert three_letters(tag) == code
