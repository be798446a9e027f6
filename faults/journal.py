"""What users were promised and what they saw, kept outside the cluster."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

from faults.orders import Order
from faults.times import now
from services.api.states import ExportState
from videoexport.v1 import export_pb2 as pb


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be.

    Attributes:
        rule: which rule is broken.
        subject: of what, such as an export's id or an object's key.
        evidence: what was seen.
    """

    rule: str
    subject: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Sight:
    """What a watcher was told once."""

    state: pb.ExportState.ValueType
    progress: float


@dataclass
class Accepted:
    """An export that somebody was promised.

    Attributes:
        user: its owner's name.
        streams: what each watch told, in order; a new one after each broken stream.
        digests: SHA-256 of every output that was told of.
        cancelled, deleted: whether its owner asked for that.
        deletion_answered: whether the owner was told that it is gone.
        cancel_answer: the state that its cancellation was answered with.
        cancel_refused: whether that was refused, as it had ended.
        file_is_right: whether its output was downloaded and seen to be as ordered; None
            as long as nobody looked.
    """

    id: str
    user: str
    order: Order
    at: datetime
    streams: list[list[Sight]] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)
    cancelled: bool = False
    deleted: bool = False
    deletion_answered: bool = False
    cancel_answer: ExportState | None = None
    cancel_refused: bool = False
    file_is_right: bool | None = None


class Journal:
    """All that was accepted, in memory and in a file; and what was found wrong on the way.

    Attributes:
        exports: by their ids.
        sources: owner and video id of each.
        unsure_uploads: how often an upload of an owner was given up, perhaps stored.
        violations: what users, and whoever injects faults, found wrong.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = path.open("w", encoding="utf-8")
        self.exports: dict[str, Accepted] = {}
        self.sources: set[tuple[str, str]] = set()
        self.unsure_uploads: Counter[str] = Counter()
        self.violations: list[Violation] = []

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def accept(self, export_id: str, user: str, order: Order) -> Accepted:
        """Write down that an export was accepted, before anything else is done with it."""
        if export_id in self.exports:
            return self.exports[export_id]
        entry = Accepted(export_id, user, order, now())
        line = {"export": export_id, "user": user, "order": order.number, "at": str(entry.at)}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self.exports[export_id] = entry
        return entry

    def violated(self, rule: str, subject: str, evidence: str) -> None:
        """Write down what was found wrong."""
        self.violations.append(Violation(rule, subject, evidence))

    @property
    def users(self) -> list[str]:
        """The names of all users who were promised something or have uploaded something."""
        return sorted(
            {entry.user for entry in self.exports.values()} | {user for user, _ in self.sources}
        )


def tell(violations: Iterable[Violation]) -> str:
    """Return violations as lines of text."""
    return "\n".join(f"{each.rule}: {each.subject}: {each.evidence}" for each in violations)
