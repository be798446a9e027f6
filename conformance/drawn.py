"""On which frames of an output something is written at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av

from tests.media.recipes.recipe import Range

# Where clips are grey: below their numbers, between their corners.
_ABOVE, _LEFT, _RIGHT = 0.88, 0.3, 0.7
# Between the grey and the border of letters; thin ones are not quite white.
_DARK = 90


def read_drawn(path: Path) -> tuple[bool, ...]:
    """Return of each frame whether there are letters with a black border below its number."""
    with av.open(str(path)) as file:
        lumas = [frame.to_ndarray(format="gray") for frame in file.decode(video=0)]
    return tuple(bool((_below(luma) < _DARK).any()) for luma in lumas)


def _below(luma: Any) -> Any:
    height, width = luma.shape
    return luma[round(_ABOVE * height) :, round(_LEFT * width) : round(_RIGHT * width)]


def drawn_problems(wanted: Sequence[Range], drawn: Sequence[bool]) -> list[str]:
    """Return whether letters are on the right frames, and on no others."""
    due = [any(start <= frame < end for start, end in wanted) for frame in range(len(drawn))]
    wrong = [frame for frame, pair in enumerate(zip(due, drawn, strict=True)) if pair[0] != pair[1]]
    if not wrong:
        return []
    state = "has" if drawn[wrong[0]] else "lacks"
    return [f"{len(wrong)} frames with wrong letters: the first, frame {wrong[0]}, {state} some"]
