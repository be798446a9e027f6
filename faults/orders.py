"""What the users of a campaign order: exports of mixed lengths and fates, by a seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

RATE = 25
USERS = 5
# Frames of a clip, and how often it is chosen. The longest two are made in parts by the
# cluster of the campaign; each frame carries its number.
CLIPS = {25: 4, 50: 5, 125: 4, 250: 3, 400: 2, 750: 1}
LEAST_SEGMENT = 10
MOST_SEGMENTS = 3
# Of an export that is stopped, seconds from its acceptance.
LONGEST_LIFE_S = 4.0


class Fate(Enum):
    """What becomes of an order."""

    FINISH = "is waited for"
    SAME = "is what the user has ordered before"
    TWICE = "is sent twice at the same time, under one request id"
    FRESH = "is of a source that is uploaded for it"
    CANCEL = "is cancelled"
    DELETE = "is deleted while it is new"
    DISCARD = "is deleted once it has ended"
    NO_VIDEO = "is of a source that is no video"


# How many of 40 orders have which fate.
SHARES = {
    Fate.FINISH: 19,
    Fate.SAME: 4,
    Fate.TWICE: 4,
    Fate.FRESH: 4,
    Fate.CANCEL: 4,
    Fate.DELETE: 2,
    Fate.DISCARD: 2,
    Fate.NO_VIDEO: 1,
}

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Order:
    """One export that a user wants.

    Attributes:
        number: from 0 in each campaign.
        user: number of the user.
        clip: frames of the source.
        ranges: frames of the source that are wanted, each end not included.
        life: seconds until it is cancelled or deleted.
    """

    number: int
    user: int
    clip: int
    ranges: Ranges
    fate: Fate
    life: float

    @property
    def frames(self) -> list[int]:
        """The numbers that the frames of the output carry."""
        return [frame for start, end in self.ranges for frame in range(start, end)]


def orders(seed: int) -> Iterator[Order]:
    """Yield orders without end; the same for the same seed."""
    dice = random.Random(f"orders {seed}")
    before: dict[int, list[Order]] = {user: [] for user in range(USERS)}
    number = 0
    while True:
        fates = [fate for fate, count in SHARES.items() for _ in range(count)]
        dice.shuffle(fates)
        # As many of each user: they get the same share of the slots.
        for fate, place in zip(fates, dice.sample(range(len(fates)), len(fates)), strict=True):
            user = place % USERS
            clip = dice.choices(list(CLIPS), list(CLIPS.values()))[0]
            ranges = _ranges(dice, clip)
            if fate is Fate.SAME and before[user]:
                earlier = dice.choice(before[user])
                clip, ranges = earlier.clip, earlier.ranges
            order = Order(number, user, clip, ranges, fate, dice.uniform(0, LONGEST_LIFE_S))
            if fate in {Fate.FINISH, Fate.TWICE}:
                before[user].append(order)
            yield order
            number += 1


def _ranges(dice: random.Random, clip: int) -> Ranges:
    """Return the whole clip half of the time, else one to three pieces of it in any order."""
    if dice.random() < 0.5:
        return ((0, clip),)
    pieces = []
    for _ in range(dice.randint(1, MOST_SEGMENTS)):
        start = dice.randrange(clip - LEAST_SEGMENT)
        pieces.append((start, dice.randint(start + LEAST_SEGMENT, clip)))
    return tuple(pieces)
