"""Several runs of FFmpeg make one output: its progress counts every frame once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from services.common import ids
from services.common.errors import DomainError, Reason
from services.common.subjects import Lane
from services.encoder.board import Run
from services.encoder.commands.ffmpeg_command import FfmpegCommand, Site
from services.encoder.deadline import Deadline
from services.encoder.errors import FramesMissing
from services.encoder.ffmpeg.process import find_ffmpeg
from services.encoder.inspection.output_facts import OutputFacts
from services.encoder.metrics import EncoderMetrics
from services.encoder.scratch import scratch
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceGateway
from services.encoder.tasks.ffmpeg_runs import LEAST_MARGINS, FfmpegRuns, Order
from tests.integration.encoder.conftest import MakeClip
from tests.media.frame_codes import Clip
from tests.media.object_server import ObjectServer
from videoexport.v1 import export_pb2 as pb

RATE = pb.Rational(numerator=25, denominator=1)
LIMIT = Duration(seconds=20)


def reporting(frames: int, frame_count: int, folder: Path) -> FfmpegCommand:
    """A program that reports so many frames, as the run of a command that makes `frame_count`."""
    report = f"frame={frames // 2}\nfps=5\nprogress=continue\nframe={frames}\nfps=5\nprogress=end"
    arguments = (sys.executable, "-c", f"print({report!r})")
    return FfmpegCommand(arguments, {}, folder / "output.mp4", frame_count)


@pytest.fixture
def runs(tmp_path: Path) -> FfmpegRuns:
    settings = EncoderSettings(
        nats_url="nats://unused", storage_address="unused", scratch_dir=tmp_path
    )
    return FfmpegRuns(settings, Path(sys.executable), EncoderMetrics(CollectorRegistry()))


async def make(runs: FfmpegRuns, run: Run, *commands: FfmpegCommand) -> None:
    deadline = Deadline.after(LIMIT)
    await runs.make(
        run,
        commands,
        family=pb.ENCODER_FAMILY_NVENC,
        deadline=deadline,
        rate=RATE,
        told=run.encoded,
    )


async def test_join_does_not_count_its_frames_again(runs: FfmpegRuns, tmp_path: Path) -> None:
    run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask(frame_count=100))
    encoding = [reporting(60, 60, tmp_path), reporting(40, 40, tmp_path)]
    await make(runs, run, *encoding)
    assert run.live.frames_done == 100
    joined = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask(frame_count=100))
    await make(runs, joined, *encoding, reporting(100, 0, tmp_path))
    assert joined.live.frames_done == 100


async def test_what_is_read_from_the_beginning_already_is_not_read_again(
    clip: MakeClip, runs: FfmpegRuns, tmp_path: Path
) -> None:
    finished = clip(Clip(frames=20))
    checked = []

    def lacking(facts: OutputFacts) -> None:
        checked.append(facts)
        raise FramesMissing("frames are missing")

    def order(*, seeks: bool) -> Order:
        def commands(site: Site) -> list[FfmpegCommand]:
            note = f"{site.least_margin}" if seeks else ""
            return [FfmpegCommand((sys.executable, "-c", f"# {note}"), {}, finished, 20)]

        deadline = Deadline.after(LIMIT)
        return Order(commands, lacking, pb.ENCODER_FAMILY_CPU, RATE, deadline)

    run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask(frame_count=20))
    async with (
        ObjectServer.serving(b"") as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        for seeks, times in ((False, 1), (True, len(LEAST_MARGINS))):
            checked.clear()
            with pytest.raises(FramesMissing):
                await runs.fill(run, order(seeks=seeks), handle, tmp_path)
            assert len(checked) == times


@pytest.mark.parametrize(
    ("kind", "gives_way"), [(pb.TASK_KIND_AUDIO, True), (pb.TASK_KIND_VIDEO, False)]
)
async def test_sound_gives_way_to_pictures(
    runs: FfmpegRuns, tmp_path: Path, kind: pb.TaskKind.ValueType, gives_way: bool
) -> None:
    told = tmp_path / "nice"
    # After a moment: the priority is set once it runs.
    program = f"import os, time; time.sleep(0.3); open({str(told)!r}, 'w').write(str(os.nice(0)))"
    command = FfmpegCommand((sys.executable, "-c", program), {}, tmp_path / "output.mp4", 1)
    await make(runs, Run(ids.run_id(), 1, Lane.MUX, pb.RunningTask(kind=kind)), command)
    assert (int(told.read_text()) > os.nice(0)) is gives_way


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a device that is always full")
async def test_full_disk_ends_an_encode_and_nothing_stays(
    tmp_path: Path,
) -> None:
    """FFmpeg meets a real ENOSPC: its output is /dev/full."""
    settings = EncoderSettings(
        nats_url="nats://unused", storage_address="unused", scratch_dir=tmp_path
    )
    runs = FfmpegRuns(settings, find_ffmpeg(), EncoderMetrics(CollectorRegistry()))
    run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask(frame_count=25))

    async def encode() -> None:
        with scratch(settings.own_scratch, "run_1") as folder:
            output = folder / "output.mp4"
            output.symlink_to("/dev/full")
            arguments = (
                *(str(runs.ffmpeg), "-v", "error", "-nostdin", "-xerror", "-y"),
                *("-progress", "pipe:1"),
                *("-f", "lavfi", "-i", "testsrc2=size=128x72:rate=25:duration=1"),
                *("-c:v", "libx264", "-movflags", "+faststart", str(output)),
            )
            await make(runs, run, FfmpegCommand(arguments, {}, output, 25))

    with pytest.raises(DomainError) as failed:
        await encode()
    assert failed.value.reason is Reason.SCRATCH_FULL
    assert "scratch disk is full" in failed.value.message
    assert list(settings.own_scratch.iterdir()) == []


async def test_run_is_told_what_it_needs_beside_the_usual(runs: FfmpegRuns, tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = f"import os; open({str(told)!r}, 'w').write(os.environ['FONTCONFIG_FILE'])"
    arguments = (sys.executable, "-c", program)
    environment = {"FONTCONFIG_FILE": "/scratch/fonts.conf"}
    command = FfmpegCommand(arguments, {}, tmp_path / "output.mp4", 1, environment)
    await make(runs, Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask()), command)
    assert told.read_text() == "/scratch/fonts.conf"
