"""Outputs beside their sources: the right frames are compared, and worse ones look worse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.common.frames import FrameRange
from services.encoder.commands.ffmpeg_command import Site
from services.encoder.commands.quality import Side, model_of, quality_commands, read_quality
from services.encoder.errors import OutputMismatch
from services.encoder.ffmpeg.process import FfmpegProcess, find_ffmpeg
from services.encoder.inspection.probe import probe
from services.encoder.sources.gateway import SourceGateway
from tests.media.exporting import Export, export
from tests.media.object_server import ObjectServer
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# A jump back, a repetition and a piece from elsewhere, so that neither side is read in one go.
RANGES = [(80, 105), (20, 45), (20, 45), (100, 130)]
FRAMES = sum(end - start for start, end in RANGES)
ALL = [FrameRange(0, FRAMES)]


async def quality_of(
    made: Export, source: Path, folder: Path, spans: Sequence[FrameRange] = ALL
) -> tuple[pb.VideoQuality, int]:
    """Compare an output with a source; return what was found, and in how many runs."""
    async with (
        ObjectServer.serving(source.read_bytes()) as there,
        ObjectServer.serving(made.path.read_bytes()) as finished,
        SourceGateway() as gateway,
        gateway.expose(there.source()) as wanted,
        gateway.expose(finished.source()) as output,
    ):
        info = await probe(output.url, size_bytes=len(finished.content), etag=finished.etag)
        work = task_pb2.MeasureTask(info=made.info, plan=made.plan)
        for span in spans:
            work.spans.add(start_frame=span.start, end_frame=span.end)
        site = Site(find_ffmpeg(), wanted.url, 1, folder)
        commands = quality_commands(site, Side(output.url, info), work)
        for command in commands:
            command.write_scripts()
            await FfmpegProcess(command.arguments, 30, time_limit=120).run()
        logs = [command.output.read_text() for command in commands]
    counts = [command.frame_count for command in commands]
    return read_quality(logs, counts, model_of(made.plan)), len(commands)


async def test_output_looks_like_its_source(real_media: Path, tmp_path: Path) -> None:
    source = real_media / "bigbuckbunny-5s.mp4"
    made = await export(source, RANGES, tmp_path, quality=pb.QUALITY_HIGH)
    found, runs = await quality_of(made, source, tmp_path)
    assert runs == 1
    assert found.frame_count == FRAMES // 5
    assert found.vmaf_mean > 95
    # One frame off is worse than any loss of the codec.
    for segment in made.plan.segments:
        segment.start_frame += 1
        segment.end_frame += 1
    shifted, _ = await quality_of(made, source, tmp_path)
    assert shifted.vmaf_mean < found.vmaf_mean - 5


async def test_worse_output_has_a_lower_score(real_media: Path, tmp_path: Path) -> None:
    source = real_media / "bigbuckbunny-5s.mp4"
    scores = []
    for quality in (pb.QUALITY_HIGH, pb.QUALITY_LOW):
        made = await export(source, [(20, 70)], tmp_path, quality=quality)
        found, _ = await quality_of(made, source, tmp_path, [FrameRange(0, 50)])
        scores.append(found.vmaf_mean)
    assert scores[0] > scores[1] + 1


async def test_only_the_frames_of_the_spans_are_compared(real_media: Path, tmp_path: Path) -> None:
    source = real_media / "bigbuckbunny-5s.mp4"
    made = await export(source, RANGES, tmp_path, quality=pb.QUALITY_HIGH)
    # The second begins within a segment and ends within another.
    found, _ = await quality_of(made, source, tmp_path, [FrameRange(0, 10), FrameRange(40, 60)])
    assert found.frame_count == 6
    assert found.vmaf_mean > 90


def test_what_needs_too_many_inputs_is_compared_in_several_runs(tmp_path: Path) -> None:
    info = pb.SourceInfo(
        container="mov",
        video=pb.VideoStream(
            width=1280,
            height=720,
            frame_rate=pb.Rational(numerator=25, denominator=1),
            frame_count=100_000,
            pixel_format="yuv420p",
        ),
    )
    plan = pb.Plan(width=1280, height=720, frame_rate=info.video.frame_rate)
    for place in range(90, 0, -1):
        plan.segments.add(start_frame=place * 1000, end_frame=place * 1000 + 10)
    work = task_pb2.MeasureTask(info=info, plan=plan)
    work.spans.add(start_frame=0, end_frame=900)
    site = Site(tmp_path / "ffmpeg", "http://127.0.0.1/", 1, tmp_path)
    commands = quality_commands(site, Side("http://127.0.0.1/o", info), work)
    assert len(commands) > 1
    assert sum(command.frame_count for command in commands) == 900
    assert all(command.arguments.count("-i") <= 64 for command in commands)
    assert len({command.output for command in commands}) == len(commands)


def test_runs_are_put_together_frame_by_frame() -> None:
    logs = [
        json.dumps({"frames": [{"metrics": {"vmaf": score}} for score in scores]})
        for scores in ([100, 80, 60], [0])
    ]
    # Every fifth, from the first on.
    found = read_quality(logs, [15, 1], "m")
    assert (found.vmaf_mean, found.vmaf_min, found.frame_count) == (60, 0, 4)
    assert found.vmaf_harmonic_mean == pytest.approx(4 / (1 / 101 + 1 / 81 + 1 / 61 + 1) - 1)
    with pytest.raises(OutputMismatch):
        read_quality([], [], "m")


@pytest.mark.parametrize(("frames", "due"), [(10, 2), (16, 4), (1, 1)])
def test_runs_that_have_compared_other_frames_than_planned_say_nothing(
    frames: int, due: int
) -> None:
    log = json.dumps({"frames": [{"metrics": {"vmaf": 90}}] * 3})
    with pytest.raises(OutputMismatch, match=f"3 frames could be compared instead of {due}"):
        read_quality([log], [frames], "m")


async def test_output_that_ends_before_its_plan_is_not_measured(
    real_media: Path, tmp_path: Path
) -> None:
    source = real_media / "bigbuckbunny-5s.mp4"
    made = await export(source, [(20, 70)], tmp_path)
    made.plan.segments[0].end_frame = 120
    with pytest.raises(OutputMismatch, match="10 frames could be compared instead of 20"):
        await quality_of(made, source, tmp_path, [FrameRange(0, 100)])


@pytest.mark.parametrize(("lines", "model"), [(1440, "vmaf_v0.6.1"), (2160, "vmaf_4k_v0.6.1")])
def test_larger_outputs_have_a_model_of_their_own(lines: int, model: str) -> None:
    assert model_of(pb.Plan(height=lines)) == model
