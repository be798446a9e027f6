"""Sound is brought to the loudness that is asked for, as measured by another program's run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from services.common import ids
from services.common.subjects import Lane
from services.encoder.board import Run
from services.encoder.commands.builder import audio_commands, whole_commands
from services.encoder.commands.filters import samples_of
from services.encoder.commands.look import look_of
from services.encoder.commands.loudness import read_tag
from services.encoder.deadline import Deadline
from services.encoder.ffmpeg.process import find_ffmpeg
from services.encoder.inspection.output_facts import check_output, check_soundtrack
from services.encoder.inspection.probe import probe
from services.encoder.metrics import EncoderMetrics
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceGateway
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns, Level, Made, Order
from tests.media.exporting import Range, plan_of
from tests.media.frame_codes import Signal
from tests.media.object_server import ObjectServer
from tests.media.sounds import RATE, Track, clip_with, measured_loudness, read_stereo
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

WHOLE: list[Range] = [(0, 100)]


def noise(seconds: float, level: float, *, seed: int = 7) -> Signal:
    """Return stereo noise without much of high frequencies, as most sound is."""
    samples = np.random.default_rng(seed).standard_normal((round(seconds * RATE), 2))
    soft = np.apply_along_axis(lambda one: np.convolve(one, np.ones(8) / 8, "same"), 0, samples)
    return (level * soft / np.abs(soft).max()).astype(np.float32)


def spiky(seconds: float) -> Signal:
    """Return quiet noise with peaks near full scale."""
    samples = noise(seconds, 0.05)
    samples[RATE // 4 :: RATE // 4] = 0.9
    return samples


@pytest.fixture
def runs(tmp_path: Path) -> FfmpegRuns:
    settings = EncoderSettings(
        nats_url="nats://unused", storage_address="unused", scratch_dir=tmp_path
    )
    return FfmpegRuns(settings, find_ffmpeg(), EncoderMetrics(CollectorRegistry()))


async def levelled(
    runs: FfmpegRuns,
    source: Path,
    folder: Path,
    target: float,
    ranges: list[Range],
    *,
    pictures: bool = True,
) -> Made:
    """Make an output, or a soundtrack, as tasks do."""
    content = source.read_bytes()
    async with (
        ObjectServer.serving(content) as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        info = await probe(handle.url, size_bytes=len(content), etag=server.etag)
        plan = plan_of(info, ranges)
        plan.loudness_lufs = target
        spans = [task_pb2.FrameSpan(start_frame=a, end_frame=b) for a, b in ranges]
        track = task_pb2.Soundtrack(
            info=info, frame_rate=plan.frame_rate, spans=spans, loudness_lufs=target
        )
        cpu = pb.ENCODER_FAMILY_CPU
        samples = samples_of(plan.frame_count, Fraction(25))
        codec = pb.VIDEO_CODEC_H264 if pictures else None
        order = Order(
            commands=lambda site: (
                whole_commands(site=site, info=info, plan=plan, family=cpu)
                if pictures
                else audio_commands(site=site, soundtrack=track)
            ),
            check=lambda facts: (
                check_output(facts, plan, look_of(info.video, plan))
                if pictures
                else check_soundtrack(facts, Fraction(plan.frame_count, 25))
            ),
            family=cpu,
            rate=plan.frame_rate,
            deadline=Deadline.after(Duration(seconds=60)),
            pictures=pictures,
            level=Level(target, samples, pictures=codec, tagged=not pictures),
        )
        run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask(frame_count=plan.frame_count))
        return await runs.fill(run, order, handle, folder)


@pytest.mark.parametrize("target", [-16.0, -23.0, -40.0])
@pytest.mark.parametrize("pictures", [True, False], ids=["whole", "soundtrack"])
async def test_sound_is_delivered_as_loud_as_asked_for(
    runs: FfmpegRuns, tmp_path: Path, target: float, pictures: bool
) -> None:
    source = clip_with([Track(noise(4, 0.3), "stereo")], tmp_path / "noise.mov")
    made = await levelled(runs, source, tmp_path, target, WHOLE, pictures=pictures)
    told = made.loudness
    assert told is not None
    before, _ = measured_loudness(source)
    after, peak = measured_loudness(made.path)
    assert told.target_lufs == target
    assert told.measured_lufs == pytest.approx(before, abs=0.1)
    assert told.delivered_lufs == pytest.approx(after, abs=0.1)
    assert told.delivered_lufs == pytest.approx(target, abs=0.2)
    assert told.true_peak_dbtp == pytest.approx(peak, abs=0.3)
    assert told.true_peak_dbtp <= -1.0


async def test_peaks_are_held_down_and_nothing_else(runs: FfmpegRuns, tmp_path: Path) -> None:
    source = clip_with([Track(spiky(4), "stereo")], tmp_path / "spiky.mov")
    made = await levelled(runs, source, tmp_path, -20.0, WHOLE)
    told = made.loudness
    assert told is not None
    assert -3.0 < told.true_peak_dbtp <= -1.0
    # Of single samples only.
    assert -25 < told.delivered_lufs < -20.5
    assert measured_loudness(made.path)[1] <= -0.8
    heard = read_stereo(made.path)
    quiet = heard[RATE // 3 : RATE // 2 - RATE // 20]
    before = spiky(4)[RATE // 3 : RATE // 2 - RATE // 20]
    gain = 20 * np.log10(np.sqrt((quiet**2).mean() / (before**2).mean()))
    assert gain == pytest.approx(-20 - told.measured_lufs, abs=0.5)


async def test_whole_timeline_is_measured_and_not_its_source(
    runs: FfmpegRuns, tmp_path: Path
) -> None:
    # Loud, quiet, loud: of which the quiet part is shown, and a second of the loud.
    samples = np.concatenate([noise(2, 0.5), noise(3, 0.02), noise(1, 0.5)])
    source = clip_with([Track(samples, "stereo")], tmp_path / "levels.mov")
    made = await levelled(runs, source, tmp_path, -16.0, [(60, 120), (130, 140)])
    assert made.loudness is not None
    heard = made.loudness.measured_lufs
    quiet, _ = measured_loudness(
        clip_with([Track(noise(3, 0.02), "stereo")], tmp_path / "quiet.mov")
    )
    loud, _ = measured_loudness(source)
    assert quiet + 3 < heard < loud
    assert made.loudness.delivered_lufs == pytest.approx(-16.0, abs=0.3)


async def test_one_gain_is_applied_to_all_of_it(runs: FfmpegRuns, tmp_path: Path) -> None:
    samples = np.concatenate([noise(2, 0.2), noise(2, 0.05)])
    source = clip_with([Track(samples, "stereo")], tmp_path / "two.mov")
    made = await levelled(runs, source, tmp_path, -23.0, WHOLE)
    heard = read_stereo(made.path)
    first, second = (np.sqrt((heard[a : a + RATE] ** 2).mean()) for a in (RATE // 2, 5 * RATE // 2))
    assert first / second == pytest.approx(4.0, rel=0.05)


async def test_silence_is_left_alone(runs: FfmpegRuns, tmp_path: Path) -> None:
    silence = np.zeros((4 * RATE, 2), np.float32)
    source = clip_with([Track(silence, "stereo")], tmp_path / "silence.mov")
    made = await levelled(runs, source, tmp_path, -16.0, WHOLE)
    assert made.loudness == pb.Loudness(
        target_lufs=-16, measured_lufs=-70, delivered_lufs=-70, true_peak_dbtp=-100
    )


async def test_output_shorter_than_a_block_is_left_alone(runs: FfmpegRuns, tmp_path: Path) -> None:
    source = clip_with([Track(noise(1, 0.3), "stereo")], tmp_path / "short.mov")
    made = await levelled(runs, source, tmp_path, -16.0, [(0, 2)])
    assert made.loudness is not None
    assert made.loudness.measured_lufs == -70


async def test_soundtrack_says_how_loud_it_is(runs: FfmpegRuns, tmp_path: Path) -> None:
    source = clip_with([Track(noise(4, 0.3), "stereo")], tmp_path / "noise.mov")
    made = await levelled(runs, source, tmp_path, -16.0, WHOLE, pictures=False)
    with av.open(str(made.path)) as file:
        told = read_tag("".join(f"{key}={text}\n" for key, text in file.metadata.items()))
    assert told is not None
    assert made.loudness is not None
    assert told.delivered_lufs == pytest.approx(made.loudness.delivered_lufs, abs=0.001)
    assert told.measured_lufs == pytest.approx(made.loudness.measured_lufs, abs=0.001)


async def test_draft_of_many_inputs_is_levelled_as_a_whole(
    runs: FfmpegRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.encoder.commands.readings.MAX_INPUTS", 2)
    source = clip_with([Track(noise(4, 0.3), "stereo")], tmp_path / "noise.mov")
    ranges = [(80, 100), (0, 20), (60, 80), (20, 45), (10, 30)]
    made = await levelled(runs, source, tmp_path, -20.0, ranges)
    assert made.loudness is not None
    assert made.loudness.delivered_lufs == pytest.approx(-20.0, abs=0.2)
