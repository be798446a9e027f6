"""What a part of copied pictures tells of itself, beside its pictures.

A part is found by its key alone. So that whoever joins it can see that the very bytes of the
source have come out in the end, their digest is in it: in a box after all others, which
players and FFmpeg pass over (ISO/IEC 14496-12 §4.2: `uuid`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_BOX = bytes.fromhex("3d5f1c52a1f64f0e9a1b7c0d8e2f6a43")
_DIGEST_BYTES, _FRAME_BYTES = 32, 8
SEAL_BYTES = 8 + len(_BOX) + _DIGEST_BYTES + _FRAME_BYTES
_HEADER = SEAL_BYTES.to_bytes(4, "big") + b"uuid" + _BOX


@dataclass(frozen=True, slots=True)
class Seal:
    """What was copied.

    Attributes:
        digest: SHA-256 of the pictures, as they lie in the source.
        start: the first of them, counted in the source.
    """

    digest: bytes
    start: int

    def write(self, part: Path) -> None:
        """Write this into a finished part."""
        with part.open("ab") as file:
            file.write(_HEADER + self.digest + self.start.to_bytes(_FRAME_BYTES, "big"))


def read_seal(tail: bytes) -> Seal | None:
    """Return what was written, from the last SEAL_BYTES of a part; None where nothing was."""
    if len(tail) != SEAL_BYTES or not tail.startswith(_HEADER):
        return None
    told = tail[len(_HEADER) :]
    return Seal(told[:_DIGEST_BYTES], int.from_bytes(told[_DIGEST_BYTES:], "big"))
