"""The encoder service put together: who opens what, and what runs beside the server."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack

import aiohttp
import grpc
import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry

from services.common.nats import connect, first_connection
from services.common.server import serving
from services.common.subjects import CANCEL, Lane
from services.encoder.board import TaskBoard
from services.encoder.capabilities import prove_encoder
from services.encoder.description import EncoderDescription
from services.encoder.direct import DirectCalls
from services.encoder.encode import WholeEncode
from services.encoder.events import EventPublisher, Reporter
from services.encoder.ffmpeg import ffmpeg_build, find_ffmpeg
from services.encoder.lanes import LaneConsumer
from services.encoder.metrics import EncoderMetrics
from services.encoder.probe import start_fork_server
from services.encoder.runner import TaskRunner
from services.encoder.servicer import EncoderServicer
from services.encoder.settings import EncoderSettings
from services.encoder.source_gateway import SourceGateway
from services.encoder.sources import SourceProber
from services.encoder.storage import StorageClient
from videoexport.channel import open_channel
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2
from videoexport.v1.encoder_service_pb2_grpc import add_EncoderServiceServicer_to_server

log = structlog.get_logger()

SERVICE_NAME = "videoexport.v1.EncoderService"
FAMILIES = (pb.ENCODER_FAMILY_CPU, pb.ENCODER_FAMILY_NVENC)


async def run(settings: EncoderSettings, stop: asyncio.Event) -> None:
    """Work and serve until `stop` is set, then drain."""
    registry = CollectorRegistry()
    metrics = EncoderMetrics(registry)
    started = Timestamp()
    started.GetCurrentTime()
    # What a killed predecessor with this scratch directory has left.
    shutil.rmtree(settings.scratch_dir, ignore_errors=True)
    settings.scratch_dir.mkdir(parents=True, mode=0o700)
    ffmpeg = settings.ffmpeg or find_ffmpeg()
    build = await ffmpeg_build(ffmpeg)
    problems = {family: await prove_encoder(ffmpeg, family) for family in FAMILIES}
    for family, problem in problems.items():
        log.info("trial encode", family=pb.EncoderFamily.Name(family), problem=problem)
    await start_fork_server()
    gpu = problems[pb.ENCODER_FAMILY_NVENC] is None
    board = TaskBoard(
        {
            Lane.PROBE: settings.probe_slots,
            Lane.CPU: settings.cpu_slots if problems[pb.ENCODER_FAMILY_CPU] is None else 0,
            Lane.GPU: settings.gpu_slots if gpu else 0,
        },
        metrics,
    )
    closing = asyncio.Event()
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(
            connect(settings.nats_url, name=settings.id, on_closed=stop.set)
        )
        js = nats.jetstream()
        http = await stack.enter_async_context(aiohttp.ClientSession())
        channel = await stack.enter_async_context(open_channel(settings.storage_address))
        gateway = await stack.enter_async_context(SourceGateway())
        storage = StorageClient(channel, http, settings.storage_timeout)
        prober = SourceProber(gateway, storage, metrics, settings.probe_timeout)
        encode = WholeEncode(settings, ffmpeg, gateway, storage, metrics)
        direct = DirectCalls(board, storage, prober, encode, gpu=gpu)
        runner = TaskRunner(
            board,
            EventPublisher(js, settings.id),
            prober,
            encode,
            metrics,
            settings.heartbeat_interval,
        )

        async def check() -> str | None:
            if board.draining:
                return "draining"
            return None if nats.is_connected else "NATS is not connected"

        # The port is known once the server listens, so the description comes in between.
        description: EncoderDescription | None = None
        address = settings.advertise_address or f"{settings.listen_host}:{settings.listen_port}"
        description = EncoderDescription(settings, board, build, problems, address, started)

        def register(server: grpc.aio.Server) -> None:
            servicer = EncoderServicer(board, description, direct, closing)
            add_EncoderServiceServicer_to_server(servicer, server)

        async def on_cancel(message: Msg) -> None:
            board.cancel(task_pb2.CancelTasks.FromString(message.data))

        await stack.enter_async_context(
            serving(
                settings,
                registry,
                services=[SERVICE_NAME],
                register=register,
                check=check,
                end_streams=closing.set,
            )
        )

        async def listen() -> None:
            await first_connection(nats)
            await nats.subscribe(CANCEL, cb=on_cancel)

        reporter = Reporter(nats, board, description, settings.id)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(listen())
            reporting = group.create_task(reporter.run())
            lanes = [
                group.create_task(LaneConsumer(lane, js, board, runner.handle).run())
                for lane in Lane
                if board.slots[lane]
            ]
            await stop.wait()
            log.info("draining", running=len(board.running()))
            board.start_drain()
            await board.drained(settings.task_drain_seconds)
            # The lanes return by themselves; each may still be waiting for a message.
            await asyncio.wait(lanes, timeout=1)
            for task in (*lanes, reporting, listening):
                task.cancel()
