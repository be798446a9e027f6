"""What a part of copied pictures tells of itself, beside its pictures.

A part is found by its key alone. So that whoever joins it can see that the very bytes of the
source have come out in the end, their digest is in it: in a box after all others, which
players and FFmpeg pass over (ISO/IEC 14496-12 §4.2: `uuid`).
"""

from __future__ import annotations

from pathlib import Path

_BOX = bytes.fromhex("3d5f1c52a1f64f0e9a1b7c0d8e2f6a43")
_DIGEST_BYTES = 32
SEAL_BYTES = 8 + len(_BOX) + _DIGEST_BYTES
_HEADER = SEAL_BYTES.to_bytes(4, "big") + b"uuid" + _BOX


def seal(path: Path, digest: bytes) -> None:
    """Write into a finished part the SHA-256 of its pictures, as they lie in the source."""
    with path.open("ab") as file:
        file.write(_HEADER + digest)


def read_seal(tail: bytes) -> bytes | None:
    """Return what `seal` has written, from the last SEAL_BYTES of a part; None without it."""
    return tail[len(_HEADER) :] if tail.startswith(_HEADER) else None
