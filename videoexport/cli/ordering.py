"""Commands on the way from a source to a file: upload, probe, plan, export, watch."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import click

from videoexport.cli import render, render_plan
from videoexport.cli.arguments import FileType, GivenType, LocalFile, PriorityType, SourceArgument
from videoexport.cli.group import command, export_argument, output_options, source_argument
from videoexport.cli.order_options import Order, order_options, suffix_of
from videoexport.cli.output import output_name, output_path
from videoexport.cli.progress import ProgressDisplay, open_display
from videoexport.cli.session import Session
from videoexport.client import AsyncClient, ExportFailed, VideoExportError
from videoexport.v1 import export_pb2

_WITHOUT_FILE = (export_pb2.EXPORT_STATE_FAILED, export_pb2.EXPORT_STATE_CANCELLED)


@command("upload", "upload talk.mp4", "upload talk.mp4 --json")
@click.argument("file", type=FileType(), metavar="FILE")
async def upload(session: Session, file: Path) -> None:
    """Upload a video and print its video id."""
    with open_display() as display:
        video_id = await session.client.upload(file, on_progress=display.upload)
    session.answer(export_pb2.Source(video_id=video_id), lambda: video_id)


@command("probe", "probe talk.mp4", "probe s3://footage/talk.mp4 --json")
@source_argument
async def probe(session: Session, source: SourceArgument) -> None:
    """Examine a source and say what it is."""
    with open_display() as display:
        resolved = await _resolve(session, source, display)
    info = await session.client.probe(resolved)
    session.answer(info, lambda: render_plan.source_details(info))


@command(
    "plan",
    "plan vid_4f0c… --segment 0:10-0:15.5 --segment 60-75",
    "plan talk.mp4 --frame-rate 25 --json",
)
@source_argument
@order_options
async def plan(session: Session, source: SourceArgument, order: Order) -> None:
    """Check an export and say exactly what it would produce, without making it."""
    await _plan(session, source, order)


@command(
    "export",
    "export talk.mp4 --segment 0:10-0:15.5 --segment 60-75 --output cut.mp4",
    "export vid_4f0c… --quality high --resolution 1080p",
    "export talk.mp4 --codec hevc --dynamic-range keep --output talk-hdr.mp4",
    "export talk.mp4 --codec av1 --output talk.webm",
    "export talk.mp4 --loudness -16 --output talk.m4a",
    "export phone.mov --resolution source --keep-location-and-device --measure-quality",
    "export portrait.mp4 --resolution 1080p --fit crop --frame-rate 30 --format webm --dry-run",
    "export match.mkv --audio-stream 3 --encoder cpu --output .",
    "export talk.mkv --subtitles 2 --subtitle-mode burn-in",
    "export talk.mp4 --quality source --segment 0:10-5:00",
    "export talk.mp4 --watermark logo.png --watermark-position top-left --watermark-opacity 0.6",
    "export vid_4f0c… --poster --sprites --sprite-interval 5 --json",
    "export s3://footage/talk.mp4 --request-id talk-42 --no-wait --json",
)
@source_argument
@order_options
@click.option(
    "--priority",
    type=PriorityType(),
    default=0,
    metavar="N",
    help="-100 to 100; higher runs earlier among your exports. Default: 0.",
)
@click.option(
    "--request-id",
    type=GivenType(),
    metavar="ID",
    help="The same ID with the same arguments gives the same export for 24 hours. A file counts "
    "as another source each time it is uploaded; name its video id instead.",
)
@output_options
@click.option("--no-wait", is_flag=True, help="Return at once; the export goes on.")
@click.option("--dry-run", is_flag=True, help="Only say what would come out, as `plan` does.")
async def export(
    session: Session,
    source: SourceArgument,
    order: Order,
    priority: int,
    request_id: str | None,
    output: Path | None,
    force: bool,
    no_wait: bool,
    dry_run: bool,
) -> None:
    """Export segments of a source as one file, and wait for it."""
    if output is not None and no_wait:
        raise click.UsageError("--output needs the finished file; leave out --no-wait.")
    file = None
    if output is not None:
        order.name_format(output)
        suffix = suffix_of(order.settings.format)
        name = output_name(source)
        file = output_path(output, name, suffix=suffix, force=force, source=source)
    if dry_run:
        await _plan(session, source, order)
        return
    with open_display() as display:
        resolved = await _resolve(session, source, display)
        await _upload_image(session, order, display)
        created = await session.client.create_export(
            resolved,
            order.segments,
            settings=order.settings,
            request_id=request_id,
            priority=priority,
        )
        if not no_wait:
            ended = await _follow(session, created.id, file, display, force=force)
    if no_wait:
        watch_it = session.command("watch", created.id)
        session.answer(created, lambda: f"Export {created.id} is accepted; follow it: {watch_it}")
        return
    _report(session, ended, file, display)


@command(
    "watch",
    "watch exp_0123456789abcdef0123456789abcdef",
    "watch exp_0123456789abcdef0123456789abcdef --output cut.mp4",
)
@export_argument
@output_options
async def watch(session: Session, export_id: str, output: Path | None, force: bool) -> None:
    """Follow an export until it has ended."""
    file = None
    if output is not None:
        suffix = suffix_of((await session.client.get(export_id)).settings.format)
        file = output_path(output, export_id, suffix=suffix, force=force)
    with open_display() as display:
        ended = await _follow(session, export_id, file, display, force=force)
    _report(session, ended, file, display)


async def _plan(session: Session, source: SourceArgument, order: Order) -> None:
    with open_display() as display:
        resolved = await _resolve(session, source, display)
        await _upload_image(session, order, display)
    planned = await session.client.plan(resolved, order.segments, settings=order.settings)
    if planned is None:
        session.note("The source is not examined yet; what could be checked without is valid.")
        planned = export_pb2.Plan()
    session.answer(planned, lambda: render_plan.plan_details(planned))


async def _resolve(
    session: Session, source: SourceArgument, display: ProgressDisplay
) -> export_pb2.Source:
    if not isinstance(source, LocalFile):
        return source
    video_id = await session.client.upload(source.path, on_progress=display.upload)
    session.note(f"{source.path.name} is uploaded as {video_id}")
    return export_pb2.Source(video_id=video_id)


async def _upload_image(session: Session, order: Order, display: ProgressDisplay) -> None:
    """Upload the image of a watermark that is a file here, and name it in the settings."""
    if order.image is not None:
        image_id = await session.client.upload(order.image, on_progress=display.upload)
        session.note(f"{order.image.name} is uploaded as {image_id}")
        order.settings.watermark.image.video_id = image_id


async def _follow(
    session: Session,
    export_id: str,
    file: Path | None,
    display: ProgressDisplay,
    *,
    force: bool,
) -> export_pb2.Export:
    session.after_interrupt = (
        f"Interrupted; export {export_id} goes on. "
        f"Follow it: {session.command('watch', export_id)} "
        f"or stop it: {session.command('cancel', export_id)}"
    )
    ended = await follow(session.client, export_id, display)
    session.after_interrupt = (
        f"Interrupted; export {export_id} has ended. See it: {session.command('get', export_id)}"
    )
    if file is not None and ended.state not in _WITHOUT_FILE:
        try:
            # Another program may have written the file while the export was made.
            await session.client.download(ended, file, replace=force, on_progress=display.download)
        except VideoExportError:
            session.note(f"Export {export_id} itself is done: {session.command('get', export_id)}")
            raise
    return ended


async def follow(
    client: AsyncClient, export_id: str, display: ProgressDisplay
) -> export_pb2.Export:
    """Show an export until it has ended, however that is, and return it."""
    async with aclosing(client.watch(export_id)) as states:
        async for export in states:
            display.export(export)
    return export


def _report(
    session: Session, ended: export_pb2.Export, file: Path | None, display: ProgressDisplay
) -> None:
    if session.json or ended.state not in _WITHOUT_FILE:
        session.answer(ended, lambda: render.summary(ended, file, display.times()))
    if ended.state in _WITHOUT_FILE:
        raise ExportFailed(ended)
