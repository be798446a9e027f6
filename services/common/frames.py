"""Ranges of frames, half-open as everywhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Frames `start` to `end` of a grid, `end` not included."""

    start: int
    end: int

    @property
    def frame_count(self) -> int:
        """How many frames it holds."""
        return self.end - self.start
