"""Parts that ended without having been stopped: by our hand, or by themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from faults.times import now
from services.local.supervisor import Notify

# What the supervisor says of a part that has ended; before it, how.
RESTARTED = re.compile(r"starting (\S+) again in \d+ s\Z")
# From our signal until the supervisor, which shares a process with the users, has seen the end.
NOTICED_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a part, or our signal for it: `how` says what the supervisor saw."""

    part: str
    at: datetime
    how: str = ""


class Deaths:
    """All of one cluster."""

    def __init__(self, notify: Notify) -> None:
        """None yet.

        Args:
            notify: told what the supervisor says as well.
        """
        self._notify = notify
        self._seen: list[Death] = []
        self._ours: list[Death] = []

    def notify(self, text: str) -> None:
        """Take a word of the supervisor."""
        if found := RESTARTED.search(text):
            self._seen.append(Death(found[1], now(), text[: found.start()].strip()))
        self._notify(text)

    def caused(self, part: str) -> None:
        """Write down that a part is sent SIGKILL now."""
        self._ours.append(Death(part, now()))

    def unexplained(self, since: datetime) -> list[Death]:
        """Return those since then that are not our doing."""
        return [each for each in unexplained(self._seen, self._ours) if each.at >= since]


def unexplained(seen: Sequence[Death], ours: Sequence[Death]) -> list[Death]:
    """Return the deaths that no signal of ours accounts for, each signal for one at most."""
    signals = list(ours)
    found = []
    for death in seen:
        fitting = (
            signal
            for signal in signals
            if signal.part == death.part and signal.at <= death.at <= signal.at + NOTICED_WITHIN
        )
        signal = next(fitting, None) if "SIGKILL" in death.how else None
        if signal is None:
            found.append(death)
        else:
            signals.remove(signal)
    return found
