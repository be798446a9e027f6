"""Many encoders in one process, as bench.scale starts it: python -m bench.scale.encoders.

Each has a connection to NATS, slots, heartbeats and reports of its own, by the very code of
services/encoder; they share a channel to the StorageService and this process's one core.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import aiohttp
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry

from bench.scale.simulated import SPAN, TASK, SimulatedProber, SimulatedRuns, StorageAside
from bench.scale.spans import Span
from services.common.content_key import Toolchain
from services.common.logging import configure_logging
from services.common.nats import connect, first_connection
from services.common.subjects import CANCEL, Lane
from services.encoder.board import Run, TaskBoard
from services.encoder.description import EncoderDescription
from services.encoder.events import HEARTBEAT_INTERVAL, EventPublisher, Reporter
from services.encoder.ffmpeg.process import FfmpegBuild
from services.encoder.lanes import LaneConsumer
from services.encoder.metrics import EncoderMetrics
from services.encoder.runner import TaskRunner
from services.encoder.scratch import prepare_scratch
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceGateway
from services.encoder.storage import StorageClient
from services.encoder.tasks.assembly import Assembly
from services.encoder.tasks.measuring import Measuring
from services.encoder.tasks.parts import PartEncode
from services.encoder.tasks.whole import WholeEncode
from services.encoder.tasks.works import Works
from videoexport.channel import open_channel
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

READY = "ready"
BUILD = FfmpegBuild("simulated", "0" * 64)
THREADS = 2
PROBLEMS = {pb.ENCODER_FAMILY_CPU: None, pb.ENCODER_FAMILY_NVENC: "FFmpeg is simulated here"}


@dataclass
class SpanLog:
    """Writes down what the slots of this process do."""

    file: IO[str]
    _open: set[Span] = field(default_factory=set)

    def open(self, span: Span) -> None:
        """Take a span that begins."""
        self._open.add(span)

    def close(self, span: Span) -> None:
        """Write a span that is over, once."""
        if span in self._open:
            self._open.remove(span)
            self.file.write(span.to_json() + "\n")

    def close_all(self) -> None:
        """Write what still runs, as far as it is."""
        for span in list(self._open):
            self.close(span)


class ObservedWorks(Works):
    """Notes when works begin and end."""

    async def do(self, task: task_pb2.Task, run: Run) -> task_pb2.TaskSucceeded:
        """Do a task."""
        TASK.set(task)
        span = SPAN.get()
        span.began = time.time()
        try:
            return await super().do(task, run)
        finally:
            span.ended = time.time()


class ObservedSlots:
    """Notes when slots are free and what comes into them.

    Args:
        encoder_id: of the encoder that has the slots.
    """

    def __init__(self, encoder_id: str, runner: TaskRunner, log: SpanLog) -> None:
        self._encoder_id = encoder_id
        self._runner = runner
        self._log = log
        self._opened = time.time()
        # By the loops of the lanes, of which each slot has one.
        self._names: dict[asyncio.Task[object] | None, str] = {}
        self._free: dict[str, float] = {}

    async def handle(self, message: Msg, lane: Lane) -> None:
        """Run the task of a message in the slot that has pulled it."""
        number = f"{self._encoder_id}/{len(self._names)}"
        slot = self._names.setdefault(asyncio.current_task(), number)
        task = task_pb2.Task.FromString(message.data)
        kind = task.WhichOneof("work") or ""
        span = Span(slot, lane, task.task_id, kind, free=self._free.get(slot, self._opened))
        SPAN.set(span)
        self._log.open(span)
        try:
            await self._runner.handle(message, lane)
        finally:
            self._free[slot] = time.time()
            self._log.close(span)


@dataclass(frozen=True)
class Shared:
    """What the encoders of this process have in common."""

    storage: StorageClient
    gateway: SourceGateway
    log: SpanLog


async def encode(settings: EncoderSettings, shared: Shared) -> None:
    """Be one encoder, put together as services/encoder/service.py does."""
    metrics = EncoderMetrics(CollectorRegistry())
    prepare_scratch(settings.own_scratch)
    slots = {
        Lane.PROBE: settings.probe_slots,
        Lane.CPU: settings.cpu_slots,
        Lane.GPU: 0,
        Lane.MUX: settings.mux_slots,
    }
    board = TaskBoard(slots, metrics)
    runs = SimulatedRuns(settings, Path("ffmpeg"), metrics)
    runs.use(shared.storage)
    making = (settings.own_scratch, runs, shared.gateway, shared.storage, metrics)
    parts = PartEncode(*making, Toolchain(BUILD.sha256, settings.threads))
    prober = SimulatedProber()
    works = ObservedWorks(
        *(prober, WholeEncode(*making), parts, Assembly(*making)),
        *(Measuring(*making, prober), shared.storage),
    )
    description = EncoderDescription(settings, board, BUILD, PROBLEMS, address="127.0.0.1:1")
    async with connect(settings.nats_url, name=settings.id, on_closed=_gone) as nats:
        js = nats.jetstream()
        events = EventPublisher(nats, settings.id, metrics.publishes)
        runner = TaskRunner(board, events, works, metrics, settings.heartbeat_interval)
        observed = ObservedSlots(settings.id, runner, shared.log)

        async def on_cancel(message: Msg) -> None:
            board.cancel(task_pb2.CancelTasks.FromString(message.data))

        await first_connection(nats)
        await nats.subscribe(CANCEL, cb=on_cancel)
        async with asyncio.TaskGroup() as group:
            group.create_task(Reporter(nats, board, description, settings.id).run())
            for lane in Lane:
                group.create_task(LaneConsumer(lane, js, board, observed.handle).run())


def _gone() -> None:
    raise RuntimeError("the connection to NATS is closed for good")


async def run(arguments: argparse.Namespace, file: IO[str]) -> None:
    """Be so many encoders until SIGTERM.

    Args:
        file: for what their slots do.
    """
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    log = SpanLog(file)
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(open_channel(arguments.storage))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        kind = StorageAside if arguments.storage_aside else StorageClient
        storage = kind(channel, http, timeout=30)
        gateway = await stack.enter_async_context(SourceGateway())
        shared = Shared(storage, gateway, log)
        encoders = []
        for number in range(arguments.encoders):
            encoders.append(asyncio.create_task(encode(_settings(arguments, number), shared)))
            # Or all of them would report in the same moment, which real ones do not.
            await asyncio.sleep(HEARTBEAT_INTERVAL / arguments.encoders)
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait([waiting, *encoders], return_when=asyncio.FIRST_COMPLETED)
        log.close_all()
        for encoder in encoders:
            encoder.cancel()
        results = await asyncio.gather(*encoders, return_exceptions=True)
    if not stop.is_set():
        raise ExceptionGroup("encoders ended", [e for e in results if isinstance(e, Exception)])


def _settings(arguments: argparse.Namespace, number: int) -> EncoderSettings:
    return EncoderSettings(
        id=f"{arguments.name}-{number + 1}",
        nats_url=arguments.nats,
        storage_address=arguments.storage,
        scratch_dir=arguments.scratch,
        cpu_slots=arguments.slots,
        encoder_threads=THREADS,
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale.encoders")
    parser.add_argument("--name", required=True)
    parser.add_argument("--encoders", type=int, required=True)
    parser.add_argument("--slots", type=int, default=1, help="of each encoder")
    parser.add_argument("--nats", required=True)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--storage-aside", action="store_true")
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--spans", type=Path, required=True)
    configure_logging("WARNING", "encoder")
    arguments = parser.parse_args()
    with arguments.spans.open("w", encoding="utf-8") as file:
        asyncio.run(run(arguments, file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
