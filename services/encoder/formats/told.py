"""What files say of themselves, made fit to be kept and shown. Pure.

Strangers wrote it: it may be endless, turn a terminal's colours or read backwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from services.common.caller import has_control_characters
from videoexport.v1 import export_pb2 as pb

MAX_TITLE = 100
MAX_VALUE = 1000
MAX_KEY = 64
# Of location and device; honest files have a dozen.
MOST_TAGS = 32

# What tells of the work, not of whoever recorded it. The muxer of mp4 has a place for each.
KEPT = (
    "title",
    "artist",
    "album_artist",
    "composer",
    "album",
    "genre",
    "date",
    "creation_time",
    "comment",
    "description",
    "synopsis",
    "copyright",
    "show",
    "season_number",
    "episode_id",
    "network",
)
# Where and with what something was recorded. Whatever is in neither list is dropped anyway.
_LOCATION_AND_DEVICE = re.compile(
    r"(com\.apple\.quicktime|com\.android)\.[a-z0-9._-]+|location|make|model|software"
    r"|(firmware|encoder|device|camera|lens|gps)[a-z0-9._-]*",
    re.IGNORECASE,
)
# An unset clock says that it is the beginning of its count: 1904 or 1970.
_FIRST_YEAR = 1980

_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,8}")
MAX_LANGUAGE = 35  # of a tag that has everything, RFC 5646 §4.4.1


def clean(text: str, most: int, *, lines: bool = False) -> str:
    """Return a text without what cannot be shown, spaces as one, cut to `most` characters.

    Args:
        lines: whether its lines stay lines.
    """
    # Ten times as much may be spaces; beyond, nobody has written it to be read.
    rows = text[: 10 * most].splitlines()
    cleaned = (" ".join(_shown(row).split()) for row in rows)
    told = ("\n" if lines else " ").join(row for row in cleaned if row or lines)
    return told.strip()[:most].strip()


def _shown(row: str) -> str:
    row = row.replace("\t", " ")
    return "".join(char for char in row if not has_control_characters(char))


def language(text: str) -> str:
    """Return a tag of a language; empty where it is none, or says that it is not known."""
    text = text.strip()
    good = _LANGUAGE.fullmatch(text) and len(text) <= MAX_LANGUAGE and text.lower() != "und"
    return text if good else ""


def kept_tags(told: Mapping[str, str]) -> list[pb.MetadataTag]:
    """Return what an output says, too, in the order of KEPT."""
    by_key = {key.lower(): value for key, value in told.items()}
    return _tags((key, by_key.get(key, "")) for key in KEPT)


def location_and_device_tags(told: Mapping[str, str]) -> list[pb.MetadataTag]:
    """Return what an output says on request alone, in the order of the file."""
    found = ((key, value) for key, value in told.items() if len(key) <= MAX_KEY)
    return _tags(pair for pair in found if _LOCATION_AND_DEVICE.fullmatch(pair[0]))[:MOST_TAGS]


def _tags(pairs: Iterable[tuple[str, str]]) -> list[pb.MetadataTag]:
    tags = []
    for key, value in pairs:
        text = _moment(value) if key == "creation_time" else clean(value, MAX_VALUE, lines=True)
        if text:
            tags.append(pb.MetadataTag(key=key, value=text))
    return tags


def _moment(text: str) -> str:
    """Return a time as FFmpeg reads and writes it; empty where it is none."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return ""
    moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    if not _FIRST_YEAR <= moment.year <= 9000:
        return ""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
