"""Client library of videoexport.

`AsyncClient` for asyncio programs, `Client` for blocking ones:

    from videoexport.client import Client

    with Client("127.0.0.1:50051", user="ann") as client:
        video_id = client.upload("talk.mp4")
        export = client.create_export(video_id, [("00:00:10", "00:00:15.5")])
        client.wait(export.id)
        client.download(export.id, "highlights.mp4")

What methods return are the messages of `videoexport.v1`.
"""

from videoexport.client.aio import DEFAULT_ADDRESS, AsyncClient
from videoexport.client.blocking import Client
from videoexport.client.calls import Timeouts
from videoexport.client.errors import (
    ClientClosed,
    ExportFailed,
    FieldProblem,
    LocalFileFailed,
    Refused,
    ServiceUnreachable,
    TransferFailed,
    VideoExportError,
)
from videoexport.client.naming import duration, parse_segment, segment, source_message, user_name
from videoexport.client.watching import TERMINAL_STATES

__all__ = [
    "DEFAULT_ADDRESS",
    "TERMINAL_STATES",
    "AsyncClient",
    "Client",
    "ClientClosed",
    "ExportFailed",
    "FieldProblem",
    "LocalFileFailed",
    "Refused",
    "ServiceUnreachable",
    "Timeouts",
    "TransferFailed",
    "VideoExportError",
    "duration",
    "parse_segment",
    "segment",
    "source_message",
    "user_name",
]
