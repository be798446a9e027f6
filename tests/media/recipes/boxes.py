"""Changes boxes of an mp4 whose index comes last, so that no place in it moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# What lies before the boxes within a box, its head of eight bytes not counted.
_BEFORE = {b"stsd": 8, b"avc1": 78, b"mp4a": 28, b"dref": 8}
Edit = Callable[[bytes], bytes]


def edited(content: bytes, path: Sequence[bytes], edit: Edit, *, track: int = 0) -> bytes:
    """Return a file with the first box at `path` replaced by what `edit` makes of it.

    Args:
        path: names from the outermost box to the one in question.
        track: which of the tracks a path leads through, from 0.
        edit: takes the whole box with its head; returns boxes in its place, or nothing.
    """
    start = _find(content, path[0], track if path[0] == b"trak" else 0)
    size = int.from_bytes(content[start : start + 4], "big")
    box = content[start : start + size]
    if len(path) == 1:
        new = edit(box)
    else:
        inside = 8 + _BEFORE.get(path[0], 0)
        new = _sized(box[:inside] + edited(box[inside:], path[1:], edit, track=track))
    return content[:start] + new + content[start + size :]


def box(name: bytes, content: bytes) -> bytes:
    """Return a box."""
    return (8 + len(content)).to_bytes(4, "big") + name + content


def _sized(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content[4:]


def _find(content: bytes, name: bytes, skip: int) -> int:
    start = 0
    while start < len(content):
        if content[start + 4 : start + 8] == name:
            if not skip:
                return start
            skip -= 1
        start += int.from_bytes(content[start : start + 4], "big")
    raise ValueError(f"there is no box {name!r}")
