"""The loops of an API replica on real NATS, each run by the test when it wants to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from api_rig import Rig
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from services.api.dispatcher import Dispatcher
from services.api.encoders import LiveEncoders
from services.api.events import EventConsumer
from services.api.metrics import ApiMetrics
from services.api.planning import ExportPlanner
from services.api.reconciler import Reconciler
from services.api.replanning import Replanner
from services.api.settings import ApiSettings
from services.api.signals import Signals
from services.common.cancellation import cancel_until_done
from services.common.content_key import RECIPE_VERSION
from services.common.errors import DomainError, Reason
from services.common.nats import publish_durably
from services.common.storage import StorageCalls
from services.common.subjects import events_subject
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

M = TypeVar("M", bound=Message)

STREAMS = ("VIDEOEXPORT_TASKS", "VIDEOEXPORT_EVENTS", "VIDEOEXPORT_EXPORTS")


def settings_for(rig: Rig, **changes: Any) -> ApiSettings:
    """Return settings of a replica whose pauses are short."""
    values: dict[str, Any] = {
        "database_url": SecretStr(rig.url),
        "nats_url": "nats://127.0.0.1:1",
        "storage_address": "127.0.0.1:1",
        "reconcile_interval": 0.1,
        "retry_delay": 0.1,
        "ack_wait": 1,
        "encoder_timeout": 1,
    }
    return ApiSettings(**{**values, **changes})


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Wait until something is so; fail after so many seconds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


class Parts:
    """What a replica consists of beside its server.

    Args:
        storage: of the test's choice; by default one that is away.
    """

    def __init__(
        self, rig: Rig, nats: Client, storage: StorageCalls | None = None, **settings: Any
    ) -> None:
        self.rig = rig
        self.nats = nats
        self.js: JetStreamContext = nats.jetstream()
        self.settings = settings_for(rig, **settings)
        self.registry = CollectorRegistry()
        self.metrics = ApiMetrics(self.registry)
        self.signals = Signals(nats)
        self.encoders = LiveEncoders(self.settings.encoder_timeout, self.signals.dispatch.set)
        self.dispatcher = Dispatcher(rig.tasks, nats, self.encoders, self.signals, self.metrics)
        self.planner = ExportPlanner(self.settings, self.encoders, rig.reuse)
        self.replanner = Replanner(
            self.settings, rig.tasks, rig.reuse, rig.housekeeping, self.planner
        )
        self.consumer = EventConsumer(
            *(self.settings, rig.tasks, nats, self.planner, self.replanner),
            *(self.signals, self.metrics),
        )
        self.reconciler = Reconciler(
            self.settings,
            rig.housekeeping,
            rig.reuse,
            self.replanner,
            nats,
            storage or AwayStorage(),
            self.encoders,
            self.signals,
            self.metrics,
        )

    def encoder(
        self, name: str = "encoder-1", *, cpu: int = 1, gpu: int = 0, problem: str = ""
    ) -> None:
        """Let an encoder be heard of."""
        self.encoders.heard(
            pb.Encoder(
                id=name,
                problem=problem,
                probe_slots=1,
                mux_slots=1,
                ffmpeg_build="build",
                encoder_threads=2,
                recipe_version=RECIPE_VERSION,
                capabilities=[
                    pb.EncoderCapability(family=pb.ENCODER_FAMILY_CPU, available=True, slots=cpu),
                    pb.EncoderCapability(
                        family=pb.ENCODER_FAMILY_NVENC, available=gpu > 0, slots=gpu
                    ),
                ],
            )
        )

    async def publish(self, event: task_pb2.TaskEvent, *, message_id: str = "") -> None:
        """Publish an event as encoders do."""
        kind = event.WhichOneof("kind")
        await publish_durably(
            self.js,
            events_subject(event.task_id),
            event,
            message_id=message_id or f"{event.run_id}.{kind}",
        )

    async def messages(self, stream: str) -> int:
        """Return how many messages a stream holds."""
        try:
            return int((await self.js.stream_info(stream)).state.messages)
        except NotFoundError:
            return 0

    async def sample(self, name: str, **labels: str) -> float:
        """Return the value of a metric; 0 where it has none."""
        return self.registry.get_sample_value(name, labels) or 0.0


class AwayStorage(StorageCalls):
    """A StorageService that cannot be reached."""

    def __init__(self) -> None:
        self.asked = 0

    async def delete(self, user_id: str, objects: Sequence[storage.ObjectRef]) -> None:
        """Fail as calls to a service that is away do."""
        self.asked += 1
        raise DomainError(Reason.STORAGE_UNAVAILABLE, "Storage is away.")


@asynccontextmanager
async def running(*loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run loops beside the block; one that ends by itself fails the test."""
    tasks = [asyncio.ensure_future(loop()) for loop in loops]
    try:
        yield
        for task in tasks:
            assert not task.done(), task
    finally:
        await cancel_until_done(tasks)


@asynccontextmanager
async def overheard(nats: Client, subject: str, kind: type[M]) -> AsyncIterator[list[M]]:
    """Collect the messages on a subject."""
    heard: list[M] = []

    async def hear(message: Msg) -> None:
        heard.append(kind.FromString(message.data))

    subscription = await nats.subscribe(subject, cb=hear)
    await nats.flush()
    yield heard
    await subscription.unsubscribe()
