"""What the first bytes of a file tell."""

import pytest

from services.encoder.container_head import announced_end, is_mp4, is_playlist

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
