"""Sound as it was decoded: its channels and its rate, which may change on the way. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

# Sound of another form that lasts is meant; a bit that is wrong makes some of a frame or two.
_MEANT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Form:
    """What sound is made of.

    Attributes:
        rate: samples a second.
        channels: the name of their layout.
    """

    rate: int
    channels: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame of sound.

    Attributes:
        begins, ends: in seconds.
    """

    begins: float
    ends: float
    form: Form


def meant_forms(heard: Sequence[Heard]) -> set[Form]:
    """Return the forms that sound is meant to have: of what lasts, and of either end.

    What lies beyond an end is not known, and may have the same form.
    """
    runs = [list(alike) for _, alike in groupby(heard, key=lambda each: each.form)]
    lasting = [run for run in runs if run[-1].ends - run[0].begins > _MEANT_SECONDS]
    return {run[0].form for run in (*lasting, *runs[:1], *runs[-1:])}
