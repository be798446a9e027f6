"""Makes exports with the encoder's real parts: gateway, probe, command, FFmpeg, verification."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from services.api.chunks import ChunkLengths, borders, chunks_of
from services.common import ids
from services.common.codecs import container_of
from services.common.damage import merged_warnings
from services.common.frames import FrameRange
from services.common.sound import chosen_stream, with_sound_of
from services.common.subjects import Lane
from services.common.subtitles import burnt_stream
from services.encoder.board import Run
from services.encoder.commands.builder import extras_of
from services.encoder.commands.extras import Extras
from services.encoder.commands.ffmpeg_command import FfmpegCommand, Site
from services.encoder.commands.look import look_of
from services.encoder.deadline import Deadline
from services.encoder.ffmpeg.process import FfmpegProcess, FfmpegResult, find_ffmpeg
from services.encoder.inspection.output_facts import OutputFacts, check_output
from services.encoder.inspection.probe import probe, verify_output
from services.encoder.metrics import EncoderMetrics
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceGateway
from services.encoder.tasks.assembly import assemble_command
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns, Order
from services.encoder.tasks.parts import audio_order, video_order
from services.encoder.tasks.subtitles import subtitles_of_chunk, subtitles_of_plan
from services.encoder.tasks.whole import order_of
from tests.media.frame_codes import Clip
from tests.media.object_server import ObjectServer
from tests.media.watermarks import LIMIT, make_mark
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# Small outputs encode fast; the codes stay readable.
WIDTH, HEIGHT = 256, 144
# Of all exports of a process: nobody reads them, and they take a while to make.
METRICS = EncoderMetrics(CollectorRegistry())
Range = tuple[int, int]
PlanOf = Callable[[pb.SourceInfo], pb.Plan]


@dataclass(frozen=True)
class Export:
    """A finished export and how it was made.

    Attributes:
        commands: the last ones.
        warnings: what its owner is told of the source.
        loudness: of its sound, where one was asked for.
    """

    path: Path
    info: pb.SourceInfo
    plan: pb.Plan
    facts: OutputFacts
    commands: tuple[FfmpegCommand, ...]
    results: tuple[FfmpegResult, ...]
    bytes_read: int
    bytes_sent: int
    warnings: tuple[pb.ExportWarning, ...]
    loudness: pb.Loudness | None = None


def plan_of(
    info: pb.SourceInfo,
    ranges: Sequence[Range],
    *,
    rate: Fraction | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    quality: pb.Quality.ValueType = pb.QUALITY_MEDIUM,
    fit: pb.Fit.ValueType = pb.FIT_PAD,
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
        fit=fit,
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
    fit: pb.Fit.ValueType = pb.FIT_PAD,
    planned: PlanOf | None = None,
    audio_stream: int | None = None,
    stall_timeout: float = 30.0,
    threads: int = 1,
    image: bytes | None = None,
) -> Export:
    """Export ranges of a file that is served over HTTP; None is the whole source.

    Args:
        planned: makes the plan, in place of all that is said of it before.
        threads: of the encode.
        image: of its watermark.
    """
    async with (
        ObjectServer.serving(await asyncio.to_thread(source.read_bytes)) as server,
        SourceGateway() as gateway,
    ):
        async with gateway.expose(server.source()) as handle:
            info = await probe(handle.url, size_bytes=len(server.content), etag=server.etag)
        before = server.bytes_sent
        ranges = [(0, info.video.frame_count)] if ranges is None else ranges
        plan = (
            planned(info)
            if planned is not None
            else plan_of(info, ranges, rate=rate, size=size, quality=quality, fit=fit)
        )
        chosen = chosen_stream(info, pb.ExportSettings(audio_stream=audio_stream))
        if planned is None and chosen is not None:
            plan.audio_stream = chosen
        info = with_sound_of(info, plan)
        work = task_pb2.WholeTask(
            info=info,
            plan=plan,
            family=pb.ENCODER_FAMILY_CPU,
            time_limit=Duration(seconds=120),
            tolerate_damage=True,
        )
        run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask(frame_count=plan.frame_count))
        async with gateway.expose(server.source()) as handle:
            await make_mark(gateway, plan, image, folder)
            subtitles = await subtitles_of_plan(handle, info, plan, LIMIT)
            deadline = Deadline.after(work.time_limit)
            order, commands = _noting(order_of(work, work.family, deadline, subtitles))
            runs = _runs(folder, stall_timeout, threads)
            made = await runs.fill(run, order, handle, folder)
            bytes_read = handle.bytes_read
        bytes_sent = server.bytes_sent - before
    return Export(
        *(made.path, info, plan, made.facts, tuple(commands), tuple(made.results)),
        *(bytes_read, bytes_sent, tuple(made.warnings(plan.frame_rate)), made.loudness),
    )


def _runs(folder: Path, stall_timeout: float = 30.0, threads: int = 1) -> FfmpegRuns:
    settings = EncoderSettings(
        nats_url="nats://unused",
        storage_address="unused",
        scratch_dir=folder,
        encoder_threads=threads,
        stall_timeout=stall_timeout,
    )
    return FfmpegRuns(settings, find_ffmpeg(), METRICS)


def _noting(order: Order) -> tuple[Order, list[FfmpegCommand]]:
    """Return an order, and the list that holds the last runs that were made for it."""
    made: list[FfmpegCommand] = []

    def commands(site: Site) -> Sequence[FfmpegCommand]:
        made[:] = order.commands(site)
        return tuple(made)

    return replace(order, commands=commands), made


@dataclass(frozen=True)
class Joined:
    """An export that was made in parts.

    Attributes:
        chunks: where each part with pictures begins and ends.
        parts: the files, the sound last.
        warnings: what its owner is told of the source.
        loudness: of its sound, where one was asked for.
    """

    path: Path
    info: pb.SourceInfo
    plan: pb.Plan
    facts: OutputFacts
    chunks: tuple[Range, ...]
    parts: tuple[Path, ...]
    warnings: tuple[pb.ExportWarning, ...]
    loudness: pb.Loudness | None = None


async def export_in_parts(
    source: Path,
    ranges: Sequence[Range],
    folder: Path,
    *,
    chunk_seconds: float,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    planned: PlanOf | None = None,
    image: bytes | None = None,
) -> Joined:
    """Export ranges of a file in chunks of about so many seconds, and join them.

    Args:
        planned: makes the plan, in place of `ranges` and `size`.
        image: of its watermark.
    """
    async with (
        ObjectServer.serving(await asyncio.to_thread(source.read_bytes)) as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        info = await probe(handle.url, size_bytes=len(server.content), etag=server.etag)
        plan = planned(info) if planned is not None else plan_of(info, ranges, size=size)
        ranges = [(segment.start_frame, segment.end_frame) for segment in plan.segments]
        rate = plan.frame_rate
        lengths = ChunkLengths.of(chunk_seconds, Fraction(rate.numerator, rate.denominator))
        places = borders(info, Fraction(rate.numerator, rate.denominator), lengths)
        chunks = [
            chunk for start, end in ranges for chunk in chunks_of(start, end, places, lengths)
        ]
        limit = Duration(seconds=120)
        orders: list[Order] = []
        for chunk in chunks:
            spec = task_pb2.VideoChunk(
                info=info,
                frame_rate=rate,
                start_frame=chunk.start,
                end_frame=chunk.end,
                width=plan.width,
                height=plan.height,
                fit=plan.fit,
                quality=plan.quality,
                family=pb.ENCODER_FAMILY_CPU,
                video_codec=plan.video_codec,
                dynamic_range=plan.dynamic_range,
                burnt_subtitles=burnt_stream(plan),
                watermark=plan.watermark if plan.HasField("watermark") else None,
            )
            place = folder / f"chunk{len(orders)}"
            place.mkdir()
            await make_mark(gateway, spec, image, place)
            drawn = await subtitles_of_chunk(handle, spec, LIMIT)
            video = task_pb2.VideoTask(chunk=spec, time_limit=limit, tolerate_damage=True)
            orders.append(video_order(video, Deadline.after(limit), drawn))
        if plan.has_audio:
            spans = [task_pb2.FrameSpan(start_frame=a, end_frame=b) for a, b in ranges]
            codec = container_of(plan.format).audio_codec
            track = task_pb2.Soundtrack(
                info=with_sound_of(info, plan),
                frame_rate=rate,
                spans=spans,
                codec=codec,
                loudness_lufs=plan.loudness_lufs if plan.HasField("loudness_lufs") else None,
            )
            audio = task_pb2.AudioTask(soundtrack=track, time_limit=limit, tolerate_damage=True)
            orders.append(audio_order(audio))
            (folder / "sound").mkdir()
        parts, warnings, loudness = [], [], None
        names = [f"chunk{number}" for number in range(len(chunks))]
        for name, order in zip([*names, "sound"], orders, strict=False):
            run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask())
            made = await _runs(folder / name).fill(run, order, handle, folder / name)
            parts.append(made.path)
            warnings += made.warnings(rate)
            loudness = made.loudness
        subtitles = await subtitles_of_plan(handle, info, plan, LIMIT)
        path, facts = await _assemble(
            gateway, parts, chunks, plan, folder, extras_of(info, plan, subtitles)
        )
    check_output(facts, plan, look_of(info.video, plan))
    return Joined(
        path,
        info,
        plan,
        facts,
        tuple((chunk.start, chunk.end) for chunk in chunks),
        tuple(parts),
        tuple(merged_warnings(*warnings)),
        loudness,
    )


async def _assemble(
    gateway: SourceGateway,
    parts: Sequence[Path],
    chunks: Sequence[FrameRange],
    plan: pb.Plan,
    folder: Path,
    extras: Extras,
) -> tuple[Path, OutputFacts]:
    async with AsyncExitStack() as stack:
        objects = []
        for part in parts:
            server = await stack.enter_async_context(ObjectServer.serving(part.read_bytes()))
            objects.append(replace(server.source(), read_whole=True))
        count = len(chunks)
        pictures = await stack.enter_async_context(gateway.expose_parts(objects[:count]))
        sound = await stack.enter_async_context(gateway.expose_parts(objects[count:]))
        command = assemble_command(
            ffmpeg=find_ffmpeg(),
            urls=pictures.urls,
            frame_counts=[chunk.frame_count for chunk in chunks],
            sound_url=next(iter(sound.urls), None),
            plan=plan,
            folder=folder,
            extras=extras,
        )
        command.write_scripts()
        await FfmpegProcess(command.arguments, time_limit=120).run()
    return command.output, await verify_output(command.output, decode_keyframes=True)


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
