"""What the first bytes of a file tell."""

from pathlib import Path

import pytest

from services.encoder.formats.container_head import (
    announced_end,
    index_in_front,
    is_mp4,
    is_playlist,
)

EBML_HEADER = b"\x1a\x45\xdf\xa3\x84\x42\x86\x81\x01"
SEGMENT = b"\x18\x53\x80\x67"


@pytest.mark.parametrize(
    ("head", "end"),
    [
        (EBML_HEADER + SEGMENT + b"\x01" + (1000).to_bytes(7, "big"), 9 + 12 + 1000),
        (EBML_HEADER + SEGMENT + b"\x85", 9 + 5 + 5),
        (EBML_HEADER + SEGMENT + b"\x01" + b"\xff" * 7, 0),
        (EBML_HEADER + SEGMENT + b"\xff", 0),
        (EBML_HEADER + b"\x00" * 12, 0),
        (EBML_HEADER, 0),
        (EBML_HEADER[:4], 0),
        (b"\x1a\x45\xdf\xa3" + b"\x01" + b"\xff" * 7, 0),
        (b"....ftypisom", 0),
        (b"", 0),
    ],
)
def test_end_of_matroska_is_read_where_it_is_said(head: bytes, end: int) -> None:
    assert announced_end(head) == end


@pytest.mark.parametrize(
    "head", [b"#EXTM3U\n", b"\xef\xbb\xbf#EXTM3U", b'<?xml version="1.0"?><MPD>']
)
def test_playlist_is_recognised(head: bytes) -> None:
    assert is_playlist(head)


def test_video_is_no_playlist() -> None:
    assert not is_playlist(b"\x00\x00\x00\x20ftypisom")
    assert is_mp4(b"\x00\x00\x00\x20ftypisom")
    assert not is_mp4(EBML_HEADER)


SEEK, CUES, CLUSTER = b"\x11\x4d\x9b\x74", b"\x1c\x53\xbb\x6b", b"\x1f\x43\xb6\x75"
WEBM = EBML_HEADER + SEGMENT + b"\x01" + (1000).to_bytes(7, "big")
VOID = b"\xec\x83abc"
SEEK_HEAD = SEEK + b"\x40\x05hello"


@pytest.mark.parametrize(
    ("content", "front"),
    [
        (WEBM + SEEK_HEAD + VOID + CUES + b"\x81." + CLUSTER + b"\x81.", True),
        (WEBM + SEEK_HEAD + VOID + CLUSTER + b"\x81." + CUES + b"\x81.", False),
        (WEBM + CUES + b"\x81." + bytes(20), True),
        (WEBM + SEEK_HEAD, False),
        (WEBM, False),
        (b"\x00\x00\x00\x08ftyp" + b"\x00\x00\x00\x08moov" + b"\x00\x00\x00\x08mdat", True),
        (b"\x00\x00\x00\x08ftyp" + b"\x00\x00\x00\x08mdat" + b"\x00\x00\x00\x08moov", False),
        (b"\x00\x00\x00\x00ftyp", False),
        (b"", False),
    ],
)
def test_index_is_in_front_where_it_comes_before_the_media(
    tmp_path: Path, content: bytes, front: bool
) -> None:
    (tmp_path / "file").write_bytes(content)
    assert index_in_front(tmp_path / "file") == front
