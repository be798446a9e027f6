"""Makes exports with the encoder's real parts: gateway, probe, command, FFmpeg, verification."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from services.encoder.command import FfmpegCommand, whole_commands
from services.encoder.ffmpeg import FfmpegProcess, FfmpegResult, find_ffmpeg
from services.encoder.output_facts import OutputFacts, check_output
from services.encoder.probe import probe, verify_output
from services.encoder.source_gateway import SourceGateway
from tests.media.frame_codes import Clip
from tests.media.object_server import ObjectServer
from videoexport.v1 import export_pb2 as pb

# Small outputs encode fast; the codes stay readable.
WIDTH, HEIGHT = 256, 144
Range = tuple[int, int]


@dataclass(frozen=True)
class Export:
    """A finished export and how it was made."""

    path: Path
    info: pb.SourceInfo
    facts: OutputFacts
    commands: tuple[FfmpegCommand, ...]
    results: tuple[FfmpegResult, ...]
    bytes_read: int
    bytes_sent: int


def plan_of(
    info: pb.SourceInfo,
    ranges: Sequence[Range],
    *,
    rate: Fraction | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    quality: pb.Quality.ValueType = pb.QUALITY_MEDIUM,
) -> pb.Plan:
    """The plan for ranges of frames, `end` not included."""
    own = info.video.frame_rate
    rate = rate or Fraction(own.numerator, own.denominator)
    return pb.Plan(
        segments=[pb.PlannedSegment(start_frame=start, end_frame=end) for start, end in ranges],
        frame_rate=pb.Rational(numerator=rate.numerator, denominator=rate.denominator),
        frame_count=sum(end - start for start, end in ranges),
        width=size[0],
        height=size[1],
        quality=quality,
        has_audio=info.HasField("audio"),
    )


async def export(
    source: Path,
    ranges: Sequence[Range] | None,
    folder: Path,
    *,
    rate: Fraction | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    quality: pb.Quality.ValueType = pb.QUALITY_MEDIUM,
    stall_timeout: float = 30.0,
) -> Export:
    """Export ranges of a file that is served over HTTP; None is the whole source."""
    async with (
        ObjectServer.serving(await asyncio.to_thread(source.read_bytes)) as server,
        SourceGateway() as gateway,
    ):
        async with gateway.expose(server.source()) as handle:
            info = await probe(handle.url, size_bytes=len(server.content), etag=server.etag)
        before = server.bytes_sent
        plan = plan_of(
            info,
            [(0, info.video.frame_count)] if ranges is None else ranges,
            rate=rate,
            size=size,
            quality=quality,
        )
        async with gateway.expose(server.source()) as handle:
            commands = whole_commands(
                ffmpeg=find_ffmpeg(),
                url=handle.url,
                info=info,
                plan=plan,
                family=pb.ENCODER_FAMILY_CPU,
                encoder_threads=1,
                folder=folder,
            )
            results = []
            for command in commands:
                command.write_scripts()
                process = FfmpegProcess(command.arguments, stall_timeout, time_limit=120)
                results.append(await process.run())
            bytes_read = handle.bytes_read
        bytes_sent = server.bytes_sent - before
    path = commands[-1].output
    facts = await verify_output(path)
    check_output(facts, plan)
    return Export(path, info, facts, commands, tuple(results), bytes_read, bytes_sent)


def expected_numbers(clip: Clip, ranges: Sequence[Range]) -> list[int]:
    """The frame numbers that ranges of the clip's grid show: the picture showing then."""
    shown = clip.numbers
    return [shown[bisect_right(shown, k) - 1] for start, end in ranges for k in range(start, end)]


def expected_clicks(clip: Clip, ranges: Sequence[Range]) -> list[float]:
    """The seconds of output at which clicks are heard that lie well inside a range."""
    assert clip.clicks is not None
    times = []
    frames_before = 0
    seconds = clip.seconds
    for start, end in ranges:
        first, last = float(start / clip.rate), float(end / clip.rate)
        count = max(1, int((first - clip.audio_delay) / clip.clicks))
        while (source_time := clip.audio_delay + count * clip.clicks) < min(last, seconds):
            # A click is 5 ms long; one on the cut itself is cut.
            if first + 0.02 < source_time < min(last, seconds) - 0.01:
                times.append(float(frames_before / clip.rate) + source_time - first)
            count += 1
        frames_before += end - start
    return times
