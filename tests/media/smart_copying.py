"""Makes exports whose pictures are copied where they can be, with the encoder's real parts."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av

from services.api.chunks import Piece, pieces_of
from services.common.planner import duration_of
from services.common.smart_copy import plan_with_copies
from services.encoder.commands.builder import audio_commands, video_commands
from services.encoder.commands.ffmpeg_command import FfmpegCommand, Site
from services.encoder.commands.look import look_of_joined
from services.encoder.ffmpeg.process import FfmpegProcess, find_ffmpeg
from services.encoder.inspection.output_facts import OutputFacts, check_output
from services.encoder.inspection.probe import probe, verify_output
from services.encoder.sources.gateway import SourceGateway, SourceHandle
from services.encoder.tasks.assembly import assemble_command
from services.encoder.tasks.copying import Survey, check_joins, checks_of, copy_part, survey
from tests.media.exporting import Range
from tests.media.object_server import ObjectServer
from tests.media.watermarks import LIMIT
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

SETTINGS = pb.ExportSettings(quality=pb.QUALITY_SOURCE)


@dataclass(frozen=True)
class Copied:
    """An export, and what it was joined of.

    Attributes:
        bytes_read: of the source, to copy and to encode.
        warnings: what its owner is told of the source; such an export has none.
        loudness: of its sound, of which none was asked for.
    """

    path: Path
    info: pb.SourceInfo
    plan: pb.Plan
    facts: OutputFacts
    pieces: tuple[Piece, ...]
    parts: tuple[Path, ...]
    bytes_read: int
    warnings: tuple[pb.ExportWarning, ...] = ()
    loudness: pb.Loudness | None = None


@asynccontextmanager
async def serving(source: Path) -> AsyncIterator[tuple[SourceHandle, pb.SourceInfo]]:
    """Serve a file as a source, and say what it is."""
    content = await asyncio.to_thread(source.read_bytes)
    async with (
        ObjectServer.serving(content) as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        yield handle, await probe(handle.url, size_bytes=len(content), etag=server.etag)


async def probed(source: Path) -> pb.SourceInfo:
    """What a file is."""
    async with serving(source) as (_, info):
        return info


def segments_of(info: pb.SourceInfo, ranges: Sequence[Range]) -> list[pb.Segment]:
    """Ranges of frames as segments."""
    rate = Fraction(info.video.frame_rate.numerator, info.video.frame_rate.denominator)
    return [
        pb.Segment(start_time=duration_of(start / rate), end_time=duration_of(end / rate))
        for start, end in ranges
    ]


def chunk_of(info: pb.SourceInfo, plan: pb.Plan, piece: Piece) -> task_pb2.VideoChunk:
    """What an encoder is told of a piece."""
    return task_pb2.VideoChunk(
        info=info,
        frame_rate=plan.frame_rate,
        start_frame=piece.frames.start,
        end_frame=piece.frames.end,
        width=plan.width,
        height=plan.height,
        fit=plan.fit,
        quality=plan.quality,
        family=pb.ENCODER_FAMILY_CPU,
        copied=piece.copied,
    )


async def export_copied(
    source: Path,
    segments: Sequence[pb.Segment],
    folder: Path,
    settings: pb.ExportSettings = SETTINGS,
) -> Copied:
    """Export segments of a file, copying what can be copied; that something is, is asserted."""
    async with serving(source) as (handle, info):
        plan, warnings = plan_with_copies(info, segments, settings)
        assert not warnings, warnings
        before = handle.bytes_read
        pieces = pieces_of(info, plan, 8.0)
        parts = []
        for number, piece in enumerate(pieces):
            chunk = chunk_of(info, plan, piece)
            place = folder / f"part{number}"
            place.mkdir()
            if piece.copied:
                parts.append(await copy_part(handle.url, info.size_bytes, chunk, place, LIMIT))
            else:
                site = Site(find_ffmpeg(), handle.url, 1, place)
                parts.append(await _run(video_commands(site=site, chunk=chunk)))
        sound = None
        if plan.has_audio:
            spans = [
                task_pb2.FrameSpan(start_frame=each.start_frame, end_frame=each.end_frame)
                for each in plan.segments
            ]
            track = task_pb2.Soundtrack(info=info, frame_rate=plan.frame_rate, spans=spans)
            (folder / "sound").mkdir()
            site = Site(find_ffmpeg(), handle.url, 1, folder / "sound")
            sound = await _run(audio_commands(site=site, soundtrack=track))
        bytes_read = handle.bytes_read - before
    path, told = await joined(parts, pieces, plan, folder, sound)
    checks = checks_of(counts_of(pieces), told.seals)
    await check_joins(path, checks, plan.frame_rate, folder, LIMIT)
    facts = await verify_output(path)
    check_output(facts, plan, look_of_joined(plan))
    return Copied(path, info, plan, facts, tuple(pieces), tuple(parts), bytes_read)


async def joined(
    parts: Sequence[Path],
    pieces: Sequence[Piece],
    plan: pb.Plan,
    folder: Path,
    sound: Path | None = None,
    *,
    head: Path | None = None,
) -> tuple[Path, Survey]:
    """Join parts as an assembly does; what comes out is not checked.

    Args:
        head: what is joined first, instead of a file with the parameters of all.
    """
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(SourceGateway())
        objects = []
        for part in (*parts, *filter(None, [sound])):
            server = await stack.enter_async_context(ObjectServer.serving(part.read_bytes()))
            objects.append(replace(server.source(), read_whole=True))
        pictures = await stack.enter_async_context(gateway.expose_parts(objects[: len(parts)]))
        heard = await stack.enter_async_context(gateway.expose_parts(objects[len(parts) :]))
        sizes = [part.size_bytes for part in objects[: len(parts)]]
        named = list(zip(pictures.urls, sizes, strict=True))
        told = await survey(named, plan.frame_rate, folder, LIMIT)
        if head is not None:
            told.head.write_bytes(_without_pictures(head))
        command = assemble_command(
            ffmpeg=find_ffmpeg(),
            urls=pictures.urls,
            frame_counts=counts_of(pieces),
            sound_url=next(iter(heard.urls), None),
            plan=plan,
            folder=folder,
            told=told,
        )
        return await _run([command]), told


def counts_of(pieces: Sequence[Piece]) -> list[int]:
    """How many frames each part holds."""
    return [piece.frames.frame_count for piece in pieces]


async def _run(commands: Sequence[FfmpegCommand]) -> Path:
    for command in commands:
        command.write_scripts()
        await FfmpegProcess(command.arguments, time_limit=120).run()
    return commands[-1].output


def samples_of(path: Path) -> list[bytes]:
    """The pictures of a file as they lie in it, in order of decoding."""
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


def _without_pictures(part: Path) -> bytes:
    """A file with the parameters of a part and nothing else."""
    written = io.BytesIO()
    with (
        av.open(str(part)) as source,
        av.open(
            written, "w", format="mp4", options={"movflags": "+empty_moov+frag_keyframe"}
        ) as head,
    ):
        head.add_stream_from_template(source.streams.video[0])
        head.start_encoding()
    return written.getvalue()
