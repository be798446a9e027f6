"""What no fault may change: the right frames, one file an export, nothing left of the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from nats.aio.msg import Msg

from faults.cluster import FaultCluster
from faults.relay import Relay
from services.common.nats import connect, first_connection
from services.common.subjects import events_subject
from services.local.services import ServicePart
from tests.e2e.conftest import Leftovers
from tests.media.frame_codes import Clip, read_frame_numbers
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# Two seconds of work for one thread, and more.
SLOW = pb.ExportSettings(resolution=pb.RESOLUTION_720P, quality=pb.QUALITY_HIGH)
SHORT = Clip(frames=50)
LONGER = Clip(frames=100, width=320, height=180)

# Generous: it bounds what hangs, not what is slow.
FINISHED_S = 120
TIDY_S = 60


def shut(relays: Iterable[Relay]) -> None:
    """Let nobody through until the cluster is healed."""
    for relay in relays:
        relay.closed = True
        relay.cut()


async def watch_streams(api: ServicePart) -> int:
    """Return how many watchers a replica of the API counts."""
    url = f"http://{api.metrics_address}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        lines = (await answer.text()).splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith("videoexport_watch_streams ")]
    return int(float(value))


def export_of(path: str) -> str:
    """Return the export whose file a request to S3 is about; empty where it is about none."""
    bucket_and_key = path.strip("/").split("/")
    return bucket_and_key[3] if bucket_and_key[1:2] == ["exports"] else ""


async def finish(client: AsyncClient, export_id: str) -> pb.Export:
    """Wait for an export that is to end with its file."""
    async with asyncio.timeout(FINISHED_S):
        return await client.wait(export_id)


async def running(client: AsyncClient, export_id: str) -> pb.Export:
    """Return an export once its frames are coming out."""
    async with asyncio.timeout(FINISHED_S):
        async for export in client.watch(export_id):
            if export.encode_status.frames_done > 0:
                return export
    raise AssertionError("the export ended before it was seen running")


async def check_exact(
    client: AsyncClient, done: pb.Export, numbers: Sequence[int], folder: Path
) -> None:
    """Check that the file of an export has exactly these frames."""
    path = await client.download(done, folder / f"{done.id}.mp4")
    shown = await asyncio.to_thread(read_frame_numbers, path)
    assert shown == list(numbers), f"{len(shown)} frames, not the {len(numbers)} planned: {shown}"
    assert done.output.frame_count == done.plan.frame_count == len(numbers)


async def check_tidy(leftovers: Leftovers, *, outputs: int) -> None:
    """Check that before long there are so many files of exports, and nothing else.

    The reconciler deletes what lost runs have stored, soon after the end.
    """

    def left() -> tuple[object, ...]:
        return (
            len(leftovers.objects()),
            leftovers.parts(),
            leftovers.scratch_files(),
            leftovers.ffmpeg_processes(),
        )

    wanted = (outputs, [], [], [])
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIDY_S
    while (found := left()) != wanted and loop.time() < deadline:
        await asyncio.sleep(0.2)
    assert found == wanted, f"outputs, parts, scratch files, FFmpeg: {found}"


@dataclass
class TaskEvents:
    """What encoders have said of tasks, in order."""

    seen: list[task_pb2.TaskEvent] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def note(self, message: Msg) -> None:
        """Take one event."""
        async with self._news:
            self.seen.append(task_pb2.TaskEvent.FromString(message.data))
            self._news.notify_all()

    def of(self, export_id: str) -> list[tuple[str, str]]:
        """Return what was said of an export, its probe aside: what, and by whom."""
        probes = {event.task_id for event in self.seen if event.succeeded.HasField("info")}
        return [
            (str(event.WhichOneof("kind")), event.encoder_id)
            for event in self.seen
            if event.export_id == export_id and event.task_id not in probes
        ]

    def kinds(self, export_id: str) -> list[str]:
        """Return what was said of an export, its probe aside."""
        return [kind for kind, _ in self.of(export_id)]

    def failures(self, export_id: str) -> list[str]:
        """Return why runs of an export have failed."""
        return [
            event.failed.code
            for event in self.seen
            if event.export_id == export_id and event.HasField("failed")
        ]

    async def next(self, kind: str, export_id: str, after: int = 0) -> task_pb2.TaskEvent:
        """Wait for an event of a kind of an export, passing over the first ones of that kind."""

        def found() -> list[task_pb2.TaskEvent]:
            return [
                event
                for event in self.seen
                if event.export_id == export_id and event.HasField(kind)
            ][after:]

        async with asyncio.timeout(FINISHED_S), self._news:
            await self._news.wait_for(found)
            return found()[0]


@asynccontextmanager
async def task_events(faulty: FaultCluster) -> AsyncIterator[TaskEvents]:
    """Collect the events of all tasks from now on."""
    events = TaskEvents()
    url = faulty.cluster.infrastructure.nats.url
    async with connect(url, name="test", on_closed=lambda: None) as nats:
        await first_connection(nats)
        await nats.subscribe(events_subject("*"), cb=events.note)
        await nats.flush()
        yield events
