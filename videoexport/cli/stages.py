"""The stages of an export as a person follows them; pure, for bars and lines alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from videoexport.cli.text import size
from videoexport.v1 import export_pb2


class Stage(IntEnum):
    """In the order in which an export passes through them."""

    UPLOAD = 1
    QUEUE = 2
    ENCODE = 3
    VERIFY = 4
    DOWNLOAD = 5

    @property
    def label(self) -> str:
        """The stage for a person."""
        return self.name.capitalize()


@dataclass(frozen=True, slots=True)
class Step:
    """Where an export stands.

    Attributes:
        stage: what is being done.
        share: how much of the stage is done, 0 to 1; None while that is not known.
        detail: the figures, in words.
        ended: what to leave on the screen when the next stage begins.
    """

    stage: Stage
    share: float | None
    detail: str
    ended: str = ""


def transfer_step(stage: Stage, moved: int, total: int, rate: float) -> Step:
    """Return the step of an upload or a download at `rate` bytes a second, 0 if not known."""
    detail = size(total) if moved >= total else f"{size(moved)} of {size(total)}"
    if rate:
        detail += f", {size(round(rate))}/s"
    if rate and moved < total:
        detail += f", {_left((total - moved) / rate)}"
    return Step(stage, min(1.0, moved / total) if total else 1.0, detail, ended=size(total))


def export_step(export: export_pb2.Export) -> Step | None:
    """Return the step of an export; None when it ended without a file."""
    match export.state:
        case export_pb2.EXPORT_STATE_QUEUED:
            ahead = export.queue_position
            return Step(Stage.QUEUE, None, f"{ahead} ahead" if ahead else "next in line")
        case export_pb2.EXPORT_STATE_PROCESSING:
            return _processing(export)
        case export_pb2.EXPORT_STATE_COMPLETED | export_pb2.EXPORT_STATE_EXPIRED:
            return Step(Stage.VERIFY, 1.0, f"{export.output.frame_count:,} frames, as planned")
        case _:
            return None


def _processing(export: export_pb2.Export) -> Step:
    match export.phase:
        case export_pb2.EXPORT_PHASE_ENCODING:
            return _encoding(export)
        case export_pb2.EXPORT_PHASE_ASSEMBLING:
            return Step(Stage.VERIFY, None, "joining the parts")
        case export_pb2.EXPORT_PHASE_VERIFYING:
            return Step(Stage.VERIFY, None, "checking the file")
        case export_pb2.EXPORT_PHASE_UPLOADING:
            return Step(Stage.VERIFY, None, "storing the file")
        case export_pb2.EXPORT_PHASE_PROBING:
            return Step(Stage.QUEUE, None, "examining the source")
        case _:
            return Step(Stage.QUEUE, None, "waiting for an encoder")


def _encoding(export: export_pb2.Export) -> Step:
    status = export.encode_status
    if not status.frame_count:
        return Step(Stage.ENCODE, None, "starting")
    speed = ""
    if status.frames_per_second:
        speed = f", {status.frames_per_second:.0f} fps, {status.speed:.1f}×"
    left = ""
    if export.HasField("eta"):
        left = f", {_left(export.eta.ToTimedelta().total_seconds())}"
    return Step(
        Stage.ENCODE,
        min(1.0, status.frames_done / status.frame_count),
        f"{status.frames_done:,} of {status.frame_count:,} frames{speed}{left}",
        ended=f"{status.frame_count:,} frames{speed}",
    )


def _left(seconds: float) -> str:
    whole = timedelta(seconds=round(seconds))
    return f"{whole} left" if seconds >= 60 else f"{whole.seconds} s left"
