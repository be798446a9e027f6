"""Progress of an export on stderr: live bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from videoexport.cli.stages import Stage, Step, export_step, transfer_step
from videoexport.cli.text import plain
from videoexport.v1 import export_pb2

LINE_INTERVAL_S = 3.0


class Sink(Protocol):
    """Shows steps; they come in order of their stages, and shares never go back."""

    def show(self, step: Step) -> None:
        """Show where the export stands now."""

    def close(self) -> None:
        """Leave what was shown last on the screen."""


class ProgressDisplay:
    """Follows an export through all its stages; a context manager."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._latest: Step | None = None
        # When each stage was first shown, when each transfer was complete, and when
        # anything was shown last.
        self._began: dict[Stage, float] = {}
        self._complete: dict[Stage, float] = {}
        self._shown_at = 0.0
        # When the first bytes of a transfer were told of, and how many.
        self._first_moved: dict[Stage, tuple[float, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sink.close()

    def upload(self, sent: int, total: int) -> None:
        """Show how many bytes of the source are uploaded."""
        self._transfer(Stage.UPLOAD, sent, total)

    def export(self, export: export_pb2.Export) -> None:
        """Show where the export stands."""
        step = export_step(export)
        if step is not None:
            self._show(step)

    def download(self, received: int, total: int) -> None:
        """Show how many bytes of the file are downloaded."""
        self._transfer(Stage.DOWNLOAD, received, total)

    def _transfer(self, stage: Stage, moved: int, total: int) -> None:
        began, first = self._first_moved.setdefault(stage, (time.monotonic(), moved))
        seconds = time.monotonic() - began
        # What had moved before the clock started says nothing of the rate.
        rate = (moved - first) / seconds if seconds > 0 else 0.0
        self._show(transfer_step(stage, moved, total, rate))
        if moved >= total:
            self._complete.setdefault(stage, time.monotonic())

    def times(self) -> dict[Stage, float]:
        """Return how many seconds each stage has taken, as seen from here.

        A transfer ends with its last byte, every other stage when the next one begins.
        """
        next_began = [*list(self._began.values())[1:], self._shown_at]
        # Without any stage there is one end too many.
        stages = zip(self._began.items(), next_began, strict=False)
        return {stage: self._complete.get(stage, end) - began for (stage, began), end in stages}

    def _show(self, step: Step) -> None:
        latest = self._latest
        if latest is not None and step.stage < latest.stage:
            # Work that was given back waits again, for example when a GPU failed.
            step = replace(latest, detail=step.detail)
        elif latest is not None and step.stage == latest.stage and latest.share is not None:
            step = replace(step, share=max(step.share or 0.0, latest.share))
        self._latest = step
        self._shown_at = time.monotonic()
        self._began.setdefault(step.stage, self._shown_at)
        self._sink.show(step)


class Bars:
    """A live bar for each stage."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
        )
        self._bars: dict[Stage, TaskID] = {}
        self._latest: Step | None = None
        self._progress.start()

    def show(self, step: Step) -> None:
        """Show the bar of a step; the stage before it is over."""
        latest, self._latest = self._latest, step
        if latest is not None and latest.stage != step.stage:
            self._progress.update(
                self._bars[latest.stage], total=1.0, completed=1.0, detail=plain(latest.ended)
            )
        if step.stage not in self._bars:
            self._bars[step.stage] = self._progress.add_task(
                step.stage.label, total=None, detail=""
            )
        # A bar without total pulses.
        self._progress.update(
            self._bars[step.stage],
            total=None if step.share is None else 1.0,
            completed=step.share or 0.0,
            detail=plain(step.detail),
        )

    def close(self) -> None:
        """Draw the bars a last time and give the terminal back."""
        self._progress.stop()


class Lines:
    """A line when a stage begins and when it is done, and one every few seconds between."""

    def __init__(self, console: Console, *, interval: float = LINE_INTERVAL_S) -> None:
        self._console = console
        self._interval = interval
        self._latest: Step | None = None
        self._printed_at = 0.0

    def show(self, step: Step) -> None:
        """Print the step, unless nothing changed or the last line is too recent."""
        latest, self._latest = self._latest, step
        if step == latest:
            return
        begins = latest is None or latest.stage != step.stage
        ends = step.share == 1.0 and (begins or latest is None or latest.share != 1.0)
        now = time.monotonic()
        if not (begins or ends) and now - self._printed_at < self._interval:
            return
        self._printed_at = now
        share = "" if step.share is None else f"{step.share:.0%}, "
        self._console.print(f"{step.stage.label}: {share}{plain(step.detail)}", soft_wrap=True)

    def close(self) -> None:
        """Nothing is open."""


def open_display(console: Console | None = None) -> ProgressDisplay:
    """Return the display that suits the console; default: stderr."""
    if console is None:
        console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    return ProgressDisplay(Bars(console) if console.is_terminal else Lines(console))
