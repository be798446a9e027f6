"""What strangers wrote is cleaned before it is kept."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.common.caller import has_control_characters
from services.encoder.formats.told import (
    KEPT,
    MAX_VALUE,
    MOST_TAGS,
    clean,
    kept_tags,
    language,
    location_and_device_tags,
)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  a\tb  c ", "a b c"),
        ("\x1b[31mred\x00", "[31mred"),
        ("one\r\ntwo\u2028three", "one two three"),
        ("txt\u202etpircs", "txttpircs"),
        ("👩‍👩‍👧 映画", "👩‍👩‍👧 映画"),
        ("x" * 200, "x" * 100),
        ("\ud800", ""),
    ],
)
def test_text_is_fit_to_be_shown(text: str, cleaned: str) -> None:
    assert clean(text, 100) == cleaned


def test_lines_stay_where_they_may() -> None:
    assert clean("one \n\n two\x07\n", 100, lines=True) == "one\n\ntwo"


@given(st.text(alphabet=st.characters(), max_size=300), st.integers(1, 50))
@example("000\r0", 4)
def test_no_text_holds_what_cannot_be_shown(text: str, most: int) -> None:
    cleaned = clean(text, most)
    assert len(cleaned) <= most
    assert not has_control_characters(cleaned)
    assert clean(cleaned, most) == cleaned
    cleaned.encode()


def test_tags_are_those_of_a_closed_list() -> None:
    told = {
        "TITLE": "Talk",
        "ARTIST": "Ann",
        "lyrics": "la",
        "location": "+1-2/",
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.location.ISO6709": "+1-2/",
        "com.android.version": "15",
        "encoder": "Lavf",
        "make": "Maker",
        "xmp": "<x/>",
        "comment": " \x00",
    }
    assert [(tag.key, tag.value) for tag in kept_tags(told)] == [
        ("title", "Talk"),
        ("artist", "Ann"),
    ]
    assert [tag.key for tag in location_and_device_tags(told)] == [
        "location",
        "com.apple.quicktime.make",
        "com.apple.quicktime.location.ISO6709",
        "com.android.version",
        "encoder",
        "make",
    ]


def test_tags_have_a_limit() -> None:
    told = {f"gps_{number}": "x" * 9999 for number in range(100)} | {"gps" * 99: "x"}
    tags = location_and_device_tags(told)
    assert len(tags) == MOST_TAGS
    assert all(len(tag.value) == MAX_VALUE for tag in tags)
    assert len(kept_tags({key: "x" for key in KEPT if key != "creation_time"})) == len(KEPT) - 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2021-05-06T07:08:09.000000Z", "2021-05-06T07:08:09.000000Z"),
        ("2021-05-06T07:08:09+02:00", "2021-05-06T05:08:09.000000Z"),
        ("2021-05-06", "2021-05-06T00:00:00.000000Z"),
        ("1904-01-01T00:00:00.000000Z", None),
        ("1970-01-01T00:00:00.000000Z", None),
        ("yesterday", None),
    ],
)
def test_creation_time_is_a_time(text: str, value: str | None) -> None:
    found = [tag.value for tag in kept_tags({"creation_time": text})]
    assert found == ([] if value is None else [value])


@pytest.mark.parametrize(
    ("text", "tag"),
    [("deu", "deu"), ("pt-BR", "pt-BR"), ("und", ""), ("", ""), ("d\x1b", ""), ("x" * 9, "")],
)
def test_language_is_a_tag_of_one(text: str, tag: str) -> None:
    assert language(text) == tag
