"""Makes watermarks with the encoder's real parts."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from services.common import ids
from services.common.subjects import Lane
from services.encoder.board import Run
from services.encoder.deadline import Deadline
from services.encoder.ffmpeg.process import find_ffmpeg
from services.encoder.metrics import EncoderMetrics
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceGateway, SourceObject
from services.encoder.storage import StorageClient
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns
from services.encoder.tasks.watermark import Watermarks
from tests.media.object_server import ObjectServer
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

LIMIT = Deadline.after(Duration(seconds=3600))


class OneImage:
    """The StorageService as far as it is asked for a watermark."""

    def __init__(self, server: ObjectServer) -> None:
        self.server = server

    def source_object(self, user_id: str, image: task_pb2.TaskSource) -> SourceObject:
        """The image, whoever asks for which."""
        return self.server.source()


async def make_mark(
    gateway: SourceGateway,
    picture: pb.Plan | task_pb2.VideoChunk,
    image: bytes | None,
    folder: Path,
) -> None:
    """Make the watermark of a plan or a chunk of its image."""
    settings = EncoderSettings(
        nats_url="nats://unused", storage_address="unused", scratch_dir=folder
    )
    runs = FfmpegRuns(settings, find_ffmpeg(), EncoderMetrics(CollectorRegistry()))
    run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask())
    async with ObjectServer.serving(image or b"") as server:
        storage = cast(StorageClient, OneImage(server))
        await Watermarks(runs, gateway, storage).make(run, "anna", picture, folder, LIMIT)
