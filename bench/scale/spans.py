"""What simulated slots did, as they noted it, and the figures that follow. Pure but for the file.

All times are seconds of the wall clock of this one machine, which Postgres has too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from bench.load import percentile


@dataclass(slots=True, eq=False)
class Span:
    """One run in a slot.

    Attributes:
        slot: which slot of the cluster.
        lane: whose slot.
        free: when the slot had settled its last task, or was opened.
        began: when the work began, after its start was stored; None where it never did.
        ended: when its result was there; None while it runs.
        ffmpeg: seconds that FFmpeg was simulated for.
    """

    slot: str
    lane: str
    task_id: str
    kind: str
    free: float
    began: float | None = None
    ended: float | None = None
    ffmpeg: float = 0.0

    def to_json(self) -> str:
        """Return the span as one line of JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Window:
    """The steady time that is measured."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start

    def share(self, span: Span) -> float:
        """Return the seconds of a span's work that lie inside."""
        if span.began is None:
            return 0.0
        ended = self.end if span.ended is None else span.ended
        return max(0.0, min(ended, self.end) - max(span.began, self.start))

    def holds(self, time: float | None) -> bool:
        """Return whether a moment lies inside."""
        return time is not None and self.start <= time < self.end


def read_spans(paths: Iterable[Path]) -> list[Span]:
    """Return the spans that simulated encoders have written, by slot and time."""
    lines = [line for path in paths for line in path.read_text().splitlines()]
    spans = [Span(**json.loads(line)) for line in lines]
    return sorted(spans, key=lambda span: (span.slot, span.free))


def efficiency(spans: Iterable[Span], slots: int, window: Window) -> float:
    """Return the share of the slots' time that went into work."""
    return sum(map(window.share, spans)) / (slots * window.seconds)


def ffmpeg_share(spans: Iterable[Span], slots: int, window: Window) -> float:
    """Return the share of the slots' time that FFmpeg would have had, if it never waited.

    A machine that is too slow makes sleeps and uploads longer, and so `efficiency` better;
    this it makes worse.
    """
    total = 0.0
    for span in spans:
        inside = window.share(span)
        if not inside or span.began is None:
            continue
        # What still runs at the end is taken for as long as FFmpeg is to take.
        whole = max(span.ffmpeg, (span.ended or 0.0) - span.began, inside)
        total += span.ffmpeg * inside / whole
    return total / (slots * window.seconds)


def finished(spans: Iterable[Span], window: Window) -> int:
    """Return how many tasks ended inside."""
    return sum(window.holds(span.ended) for span in spans)


def dispatch_times(spans: Iterable[Span], due: Mapping[str, float], window: Window) -> list[float]:
    """Return, sorted, how long each slot or task, whichever came later, waited for the other.

    Args:
        due: when tasks were due, by id; one that is not known counts as due for long.
    """
    return sorted(
        span.began - max(span.free, due.get(span.task_id, 0.0))
        for span in spans
        if span.began is not None and window.holds(span.began)
    )


def pauses(spans: Sequence[Span], window: Window) -> list[float]:
    """Return, sorted, the seconds between two works of a slot, its word and the next one's start.

    Args:
        spans: by slot and time.
    """
    found = []
    for last, span in pairwise(spans):
        if last.slot != span.slot or last.ended is None or span.began is None:
            continue
        if window.holds(span.began):
            found.append(span.began - last.ended)
    return sorted(found)


def summary(times: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile of sorted times; infinite without any."""
    if not times:
        return float("inf"), float("inf")
    return percentile(times, 0.5), percentile(times, 0.99)
