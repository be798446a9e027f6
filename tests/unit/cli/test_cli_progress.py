"""What a person sees of an export's course, on a terminal and elsewhere."""

from __future__ import annotations

import io
import time

import pytest
from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from videoexport.cli.progress import Bars, Lines, ProgressDisplay, open_display
from videoexport.cli.stages import Stage, Step, export_step, transfer_step
from videoexport.v1 import export_pb2


class Recorder:
    """Keeps the steps that a display shows."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def show(self, step: Step) -> None:
        self.steps.append(step)

    def close(self) -> None:
        pass


def queued(position: int) -> export_pb2.Export:
    return export_pb2.Export(state=export_pb2.EXPORT_STATE_QUEUED, queue_position=position)


def processing(phase: export_pb2.ExportPhase.ValueType, done: int = 0) -> export_pb2.Export:
    return export_pb2.Export(
        state=export_pb2.EXPORT_STATE_PROCESSING,
        phase=phase,
        eta=Duration(seconds=12),
        encode_status=export_pb2.EncodeStatus(
            frames_done=done, frame_count=1000, frames_per_second=100, speed=4
        ),
    )


def completed() -> export_pb2.Export:
    output = export_pb2.Output(frame_count=1000)
    return export_pb2.Export(state=export_pb2.EXPORT_STATE_COMPLETED, output=output)


def test_export_step_says_what_is_known() -> None:
    encoding = export_pb2.EXPORT_PHASE_ENCODING
    assert export_step(queued(3)) == Step(Stage.QUEUE, None, "3 ahead")
    assert export_step(queued(0)) == Step(Stage.QUEUE, None, "next in line")
    assert export_step(processing(encoding, 250)) == Step(
        Stage.ENCODE,
        0.25,
        "250 of 1,000 frames, 100 fps, 4.0×, 12 s left",
        ended="1,000 frames, 100 fps, 4.0×",
    )
    assert export_step(completed()) == Step(Stage.VERIFY, 1.0, "1,000 frames, as planned")
    assert export_step(export_pb2.Export(state=export_pb2.EXPORT_STATE_FAILED)) is None


@pytest.mark.parametrize("phase", [each for each in export_pb2.ExportPhase.values() if each])
def test_export_step_knows_every_phase(phase: export_pb2.ExportPhase.ValueType) -> None:
    step = export_step(processing(phase))
    assert step is not None
    waiting = (export_pb2.EXPORT_PHASE_WAITING, export_pb2.EXPORT_PHASE_PROBING)
    if phase in waiting:
        assert step.stage is Stage.QUEUE
    elif phase == export_pb2.EXPORT_PHASE_ENCODING:
        assert step.stage is Stage.ENCODE
    else:
        assert step.stage is Stage.VERIFY


def test_transfer_step_has_rate_and_time_left() -> None:
    step = transfer_step(Stage.UPLOAD, 10_000_000, 40_000_000, 5e6)
    assert step == Step(Stage.UPLOAD, 0.25, "10.0 MB of 40.0 MB, 5.0 MB/s, 6 s left", "40.0 MB")
    assert transfer_step(Stage.UPLOAD, 0, 0, 0.0).share == 1.0


def test_display_never_goes_back() -> None:
    sink = Recorder()
    encoding, waiting = export_pb2.EXPORT_PHASE_ENCODING, export_pb2.EXPORT_PHASE_WAITING
    with ProgressDisplay(sink) as display:
        for export in (
            queued(2),
            processing(encoding, 600),
            # The GPU failed: the work waits again, and begins again on the CPU.
            processing(waiting),
            processing(encoding, 100),
            completed(),
        ):
            display.export(export)
    stages = [step.stage for step in sink.steps]
    shares = [step.share for step in sink.steps if step.stage is Stage.ENCODE]
    assert stages == sorted(stages)
    assert shares == [0.6, 0.6, 0.6]
    assert sink.steps[2].detail == "waiting for an encoder"


def test_display_measures_every_stage() -> None:
    display = ProgressDisplay(Recorder())
    assert display.times() == {}
    display.upload(1, 2)
    display.upload(2, 2)
    # Whatever happens between, such as a probe, is no part of the upload.
    time.sleep(0.1)
    display.export(queued(1))
    display.download(5, 5)
    times = display.times()
    assert list(times) == [Stage.UPLOAD, Stage.QUEUE, Stage.DOWNLOAD]
    assert all(0 <= seconds < 0.1 for seconds in times.values())


def test_lines_are_few_and_plain() -> None:
    target = io.StringIO()
    display = ProgressDisplay(Lines(Console(file=target, width=20), interval=3600))
    for done in range(1, 1001):
        display.upload(done, 1000)
    for done in range(0, 1001, 10):
        display.export(processing(export_pb2.EXPORT_PHASE_ENCODING, done))
    display.export(completed())
    display.export(completed())
    lines = target.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "Upload",
        "Upload",
        "Encode",
        "Encode",
        "Verify",
    ]
    assert lines[1].startswith("Upload: 100%, 1.0 kB")
    assert "\x1b" not in target.getvalue()


def test_bars_show_every_stage_once() -> None:
    target = io.StringIO()
    console = Console(file=target, force_terminal=True, width=120, color_system=None)
    with ProgressDisplay(Bars(console)) as display:
        display.upload(50, 100)
        display.upload(100, 100)
        display.export(queued(4))
        display.export(processing(export_pb2.EXPORT_PHASE_ENCODING, 500))
        display.export(completed())
        display.download(7, 7)
    last = target.getvalue().rpartition("Upload")[2]
    assert [last.count(label) for label in ("Queue", "Encode", "Verify", "Download")] == [1] * 4
    # What was still to come when the encode was last heard of is not left standing.
    assert "1,000 frames, 100 fps, 4.0×" in last
    assert "left" not in last
    assert "ahead" not in last


def test_open_display_suits_the_console() -> None:
    plain = io.StringIO()
    with open_display(Console(file=plain)) as display:
        display.export(queued(1))
    assert plain.getvalue() == "Queue: 1 ahead\n"
    terminal = io.StringIO()
    with open_display(Console(file=terminal, force_terminal=True, width=100)) as display:
        display.export(queued(1))
    assert "\x1b[" in terminal.getvalue()
