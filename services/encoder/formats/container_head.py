"""What the bytes of a file tell that the demuxer does not."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

HEAD_BYTES = 4096

_PLAYLIST_SIGNS = (b"#EXTM3U", b"<MPD", b"ffconcat", b"<smil", b"[playlist]", b"v=0\r\n", b"v=0\n")
# Types of the boxes that an mp4 or mov may begin with.
_MP4_BOXES = (b"ftyp", b"wide", b"mdat", b"free", b"skip")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_CUES, _CLUSTER = b"\x1c\x53\xbb\x6b", b"\x1f\x43\xb6\x75"


def is_playlist(head: bytes) -> bool:
    """Return whether this is a playlist, manifest or script, which refers to other files."""
    return any(sign in head[:512] for sign in _PLAYLIST_SIGNS)


def is_mp4(head: bytes) -> bool:
    """Return whether this begins as an mp4 or mov does, readable or not."""
    return head[4:8] in _MP4_BOXES


def announced_end(head: bytes) -> int:
    """Return how many bytes the file says that it has, 0 where it does not say.

    That is Matroska's segment (RFC 8794, RFC 9559); mp4 tells it by its index.
    """
    if not head.startswith(_EBML):
        return 0
    head = head.ljust(HEAD_BYTES, b"\0")
    header_length, position = _vint(head, len(_EBML))
    position += header_length
    if head[position : position + 4] != _SEGMENT:
        return 0
    width = _width(head, position + 4)
    length, position = _vint(head, position + 4)
    unknown = (1 << 7 * width) - 1  # a recording that was not finished
    return 0 if length == unknown else position + length


def index_in_front(path: Path) -> bool:
    """Return whether playing can begin before the whole file is there."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        return _cues_in_front(file, head) if head.startswith(_EBML) else _moov_in_front(file)


def _moov_in_front(file: BinaryIO) -> bool:
    """Walk the boxes at the top level (ISO/IEC 14496-12 §4.2) to the index or the media."""
    while len(header := file.read(8)) == 8:
        length, kind = int.from_bytes(header[:4], "big"), header[4:]
        if kind in (b"moov", b"mdat"):
            return kind == b"moov"
        if length < 8:
            break
        file.seek(length - 8, 1)
    return False


def _cues_in_front(file: BinaryIO, head: bytes) -> bool:
    """Walk the elements of Matroska's segment (RFC 9559 §5.1) to the cues or the media."""
    header_length, position = _vint(head, len(_EBML))
    _, position = _vint(head, position + header_length + len(_SEGMENT))
    file.seek(position)
    while len(header := file.read(12)) == 12:
        name = header[: _width(header, 0)]
        if name in (_CUES, _CLUSTER):
            return name == _CUES
        length, after = _vint(header, len(name))
        file.seek(after - len(header) + length, 1)
    return False


def _width(data: bytes, position: int) -> int:
    return 9 - data[position].bit_length()


def _vint(data: bytes, position: int) -> tuple[int, int]:
    """Return a variable-length integer and the position after it."""
    width = _width(data, position)
    value = int.from_bytes(data[position : position + width], "big") & (1 << 7 * width) - 1
    return value, position + width
