"""The encoder service put together: who opens what, and what runs beside the server."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import aiohttp
import grpc
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry

from services.common.cancellation import cancel_until_done
from services.common.config import StartupError
from services.common.content_key import Toolchain
from services.common.health import Dependency, DependencyName
from services.common.nats import ANSWER_SECONDS, connect, connection_problem, first_connection
from services.common.server import serving
from services.common.storage import STORAGE_SERVICE, service_problem
from services.common.subjects import CANCEL, HELLO, Lane
from services.encoder.board import TaskBoard
from services.encoder.capabilities import Capabilities, prove_encoders
from services.encoder.description import EncoderDescription
from services.encoder.direct import DirectCalls
from services.encoder.errors import EncoderFailed
from services.encoder.events import EventPublisher, Reporter
from services.encoder.ffmpeg.process import FfmpegBuild, ffmpeg_build, find_ffmpeg
from services.encoder.inspection.probe import start_fork_server
from services.encoder.lanes import FETCH_SECONDS, LaneConsumer
from services.encoder.metrics import EncoderMetrics
from services.encoder.runner import TaskRunner
from services.encoder.scratch import ScratchSpace, prepare_scratch
from services.encoder.servicer import EncoderServicer
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceGateway
from services.encoder.sources.prober import SourceProber
from services.encoder.storage import StorageClient
from services.encoder.tasks.assembly import Assembly
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns
from services.encoder.tasks.measuring import Measuring
from services.encoder.tasks.parts import PartEncode
from services.encoder.tasks.whole import WholeEncode
from services.encoder.tasks.works import Works
from videoexport.channel import open_channel
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2
from videoexport.v1.encoder_service_pb2_grpc import add_EncoderServiceServicer_to_server

log = structlog.get_logger()

SERVICE_NAME = "videoexport.v1.EncoderService"


async def run(settings: EncoderSettings, stop: asyncio.Event) -> None:
    """Work and serve until `stop` is set, then drain."""
    registry = CollectorRegistry()
    metrics = EncoderMetrics(registry)
    prepare_scratch(settings.own_scratch)
    ffmpeg = _program(settings.ffmpeg)
    build = await _build(ffmpeg, settings.trial_timeout)
    proven = await prove_encoders(ffmpeg, timeout=settings.trial_timeout)
    space = ScratchSpace(settings.own_scratch, settings.scratch_least_free_bytes, metrics)
    board = TaskBoard(_slots(settings, proven), metrics, space.problem)
    # Forked from now on, while no thread of gRPC is there yet.
    await start_fork_server()
    closing = asyncio.Event()
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(
            connect(settings.nats_url, name=settings.id, on_closed=stop.set)
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        channel = await stack.enter_async_context(open_channel(settings.storage_address))
        gateway = await stack.enter_async_context(SourceGateway())
        storage = StorageClient(channel, http, settings.storage_timeout)
        prober = SourceProber(gateway, storage, metrics, settings.probe_timeout)
        runs = FfmpegRuns(settings, ffmpeg, metrics)
        making = (settings.own_scratch, runs, gateway, storage, metrics)
        whole = WholeEncode(*making)
        tools = Toolchain(build.sha256, settings.threads)
        works = Works(
            *(prober, whole, PartEncode(*making, tools), Assembly(*making)),
            *(Measuring(*making, prober), storage),
        )
        description = EncoderDescription(settings, board, build, proven)

        async def check() -> str | None:
            return board.not_ready()

        def register(server: grpc.aio.Server) -> None:
            limit = timedelta(seconds=settings.preview_limit_seconds)
            capabilities = tuple(proven.values())
            direct = DirectCalls(board, storage, prober, whole, limit, capabilities)
            servicer = EncoderServicer(board, description, direct, closing)
            add_EncoderServiceServicer_to_server(servicer, server)

        server = await stack.enter_async_context(
            serving(
                settings,
                registry,
                services=[SERVICE_NAME],
                register=register,
                check=check,
                dependencies=[
                    # Without either it can do no work, and there is nothing else to ask of it.
                    Dependency(DependencyName.NATS, partial(connection_problem, nats)),
                    Dependency(
                        DependencyName.STORAGE, partial(service_problem, channel, STORAGE_SERVICE)
                    ),
                ],
                end_streams=closing.set,
            )
        )
        description.address = settings.advertise_address or server.address
        js = nats.jetstream(timeout=ANSWER_SECONDS)
        events = EventPublisher(nats, settings.id, metrics.publishes)
        runner = TaskRunner(board, events, works, metrics, settings.heartbeat_interval)
        lanes = [LaneConsumer(lane, js, board, runner.handle) for lane in Lane]
        reporter = Reporter(nats, board, description, settings.id)
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(reporter.run()),
                group.create_task(_listen(nats, board, reporter)),
            ]
            working = [group.create_task(lane.run()) for lane in lanes]
            await stop.wait()
            log.info("draining", running=len(board.running()))
            board.start_drain()
            await board.drained(settings.task_drain_seconds)
            # A pull under way may still bring a message, which is then handed back.
            await asyncio.wait(working, timeout=FETCH_SECONDS + 1)
            await cancel_until_done([*working, *beside])


def _program(configured: Path | None) -> Path:
    try:
        return find_ffmpeg(configured)
    except FileNotFoundError as error:
        raise StartupError(str(error)) from None


async def _build(ffmpeg: Path, timeout: float) -> FfmpegBuild:
    try:
        return await ffmpeg_build(ffmpeg, timeout=timeout)
    except EncoderFailed as error:
        raise StartupError(f"{ffmpeg}: {error.message}") from None
    except OSError as error:
        raise StartupError(f"{ffmpeg} cannot be run: {error.strerror}") from None


def _slots(settings: EncoderSettings, proven: Capabilities) -> dict[Lane, int]:
    return {
        Lane.PROBE: settings.probe_slots,
        Lane.CPU: settings.cpu_slots if proven[pb.ENCODER_FAMILY_CPU].available else 0,
        Lane.GPU: settings.gpu_slots if proven[pb.ENCODER_FAMILY_NVENC].available else 0,
        Lane.MUX: settings.mux_slots,
    }


async def _listen(nats: Client, board: TaskBoard, reporter: Reporter) -> None:
    """Heed what is said to all encoders."""

    async def on_cancel(message: Msg) -> None:
        board.cancel(task_pb2.CancelTasks.FromString(message.data))

    async def on_hello(_: Msg) -> None:
        await reporter.heartbeat()

    await first_connection(nats)
    await nats.subscribe(CANCEL, cb=on_cancel)
    await nats.subscribe(HELLO, cb=on_hello)
