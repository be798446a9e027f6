"""File names survive the way through a header."""

from __future__ import annotations

import pytest
from aiohttp import content_disposition_filename, parse_content_disposition

from services.storage.objects import attachment


@pytest.mark.parametrize(
    "name", ["a.mp4", "my clip.mp4", 'quo"te\\back.mp4', "100%.mp4", "Füße 😀; x=1.mp4", "'a'.mp4"]
)
def test_attachment_gives_back_the_name(name: str) -> None:
    kind, parameters = parse_content_disposition(attachment(name))
    assert kind == "attachment"
    # Prefers the encoded parameter, as browsers do.
    assert content_disposition_filename(parameters) == name


def test_attachment_is_plain_ascii() -> None:
    header = attachment("Füße\u00a0😀.mp4")
    assert header.isascii()
    assert header.isprintable()
