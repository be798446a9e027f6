"""Commands on what exists: get, list, cancel, retry, delete, encoders."""

from __future__ import annotations

import click

from videoexport.cli import render
from videoexport.cli.arguments import GivenType
from videoexport.cli.group import command, export_argument
from videoexport.cli.history import history_table
from videoexport.cli.session import Session
from videoexport.client import Refused, VideoExportError
from videoexport.v1 import export_pb2, export_service_pb2

_PREFIX = "EXPORT_STATE_"
_STATES = [
    name.removeprefix(_PREFIX).lower()
    for name, number in export_pb2.ExportState.items()
    if number != export_pb2.EXPORT_STATE_UNSPECIFIED
]
_LARGEST_PAGE = 1000


@command(
    "get",
    "get exp_0123456789abcdef0123456789abcdef",
    "get exp_0123… --json",
    "get exp_0123… --history",
)
@export_argument
@click.option(
    "--history",
    is_flag=True,
    help="Also show who changed which state of it and of its tasks, when and why.",
)
async def get(session: Session, export_id: str, history: bool) -> None:
    """Show an export, with a fresh download link once it is completed."""
    export = await session.client.get(export_id, history=history)
    after = f"\n\n{history_table(export)}" if history else ""
    session.answer(export, lambda: render.export_details(export) + after)


@command("list", "list", "list --state processing --state queued", "list --limit 1000 --json")
@click.option(
    "--state",
    "states",
    type=click.Choice(_STATES),
    multiple=True,
    help="Only exports in this state; may be given many times.",
)
@click.option("--video", type=GivenType(), metavar="VIDEO_ID", help="Only exports of this video.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    metavar="N",
    help="Show at most so many. Default: 50.",
)
async def list_exports(
    session: Session, states: tuple[str, ...], video: str | None, limit: int
) -> None:
    """List your exports, newest first."""
    request = export_service_pb2.ListExportsRequest(
        page_size=min(limit, _LARGEST_PAGE),
        video_id=video or "",
        states=[export_pb2.ExportState.Value(_PREFIX + state.upper()) for state in states],
    )
    listed = export_service_pb2.ListExportsResponse()
    while True:
        page = await session.client.list_page(request)
        listed.exports.extend(page.exports[: limit - len(listed.exports)])
        listed.total_size = page.total_size
        if not page.next_page_token or len(listed.exports) == limit:
            break
        request.page_token = page.next_page_token
    session.answer(listed, lambda: render.exports_table(listed))


@command("cancel", "cancel exp_0123456789abcdef0123456789abcdef")
@export_argument
async def cancel(session: Session, export_id: str) -> None:
    """Cancel an export for good; cancelling it again changes nothing."""
    export = await session.client.cancel(export_id)
    session.answer(export, lambda: f"Export {export.id} is cancelled.")


@command("retry", "retry exp_0123456789abcdef0123456789abcdef")
@export_argument
async def retry(session: Session, export_id: str) -> None:
    """Run again what failed of an export."""
    export = await session.client.retry(export_id)
    watch_it = session.command("watch", export.id)
    session.answer(
        export, lambda: f"Export {export.id} is {render.state_of(export)}; follow it: {watch_it}"
    )


@command("delete", "delete exp_0123456789abcdef0123456789abcdef", "delete exp_0123… exp_4567…")
@click.argument("export_ids", metavar="ID...", nargs=-1, required=True)
async def delete(session: Session, export_ids: tuple[str, ...]) -> None:
    """Delete exports and their files; a running one is cancelled first.

    All are tried. What cannot be deleted is told, and makes the exit status.
    """
    deleted: list[str] = []
    failures: list[VideoExportError] = []
    for export_id in dict.fromkeys(export_ids):
        try:
            await session.client.delete(export_id)
        except VideoExportError as error:
            failures.append(error)
        else:
            deleted.append(export_id)
    if deleted:
        session.answer(
            export_service_pb2.DeleteExportResponse(),
            lambda: "\n".join(f"Export {export_id} is deleted." for export_id in deleted),
        )
    # The last one makes the exit status: that of a service that cannot work, if there is one.
    failures.sort(key=lambda failure: not isinstance(failure, Refused))
    for failure in failures[:-1]:
        session.note(f"videoexport: {failure}")
    if failures:
        raise failures[-1]


@command("encoders", "encoders", "encoders --json")
async def encoders(session: Session) -> None:
    """List the live encoders: what they can do, and what runs on them."""
    live = await session.client.encoders()
    session.answer(
        export_service_pb2.ListEncodersResponse(encoders=live),
        lambda: render.encoders_table(live),
    )
