"""The version before beside this one: its tasks are run, and it can read what this one sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message

from services.api.store import Database, ExportStore
from services.api.store.records import NewExport, NewTask, Quotas, Submission
from services.common import ids
from services.common.nats import connect, first_connection
from services.common.subjects import Lane
from services.local.cluster import LocalCluster
from tests.fixtures.previous.overheard import Overheard
from tests.media.frame_codes import Clip, read_frame_numbers
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

PREVIOUS = Path(__file__).resolve().parents[1] / "fixtures/previous"
MakeClip = Callable[[Clip], Path]
# As its messages were recorded: see record.py there.
SHORT = Clip(frames=50)
LONG = Clip(frames=250, gop=50)
# More than half a minute is made in parts here; shown again, they are made once.
FOUR_TIMES = [(0, 10)] * 4
PACKAGE = "videoexport.v1"
# In the order of the output, named by their first frames.
CHUNKS = sorted(
    (path.stem for path in (PREVIOUS / "messages").glob("Task.video.*.binpb")),
    key=lambda name: int(name.rpartition(".")[2]),
)


def old(name: str) -> bytes:
    """Return a message as the version before has sent it."""
    return (PREVIOUS / f"messages/{name}.binpb").read_bytes()


# Its tasks


@pytest.fixture
async def store(cluster: LocalCluster) -> AsyncIterator[ExportStore]:
    """The cluster's rows, in an API replica's place."""
    database = Database(cluster.infrastructure.postgres.url, pool_size=1, timeout=10)
    yield ExportStore(database)
    await database.close()


async def ordered(
    store: ExportStore, client: AsyncClient, clip: Path, tasks: dict[str, tuple[str, Lane]]
) -> str:
    """Store an export with tasks of before, for a source that is there; return its id."""
    video = await client.upload(clip)
    info = await client.probe(video)
    source = task_pb2.TaskSource(
        source=pb.Source(video_id=video), etag=info.etag, size_bytes=info.size_bytes
    )
    new = NewExport(
        id=ids.export_id(),
        user_id=client.user,
        source=source.source,
        source_etag=source.etag,
        source_size_bytes=source.size_bytes,
        segments=(),
        settings=pb.ExportSettings(),
        priority=0,
    )
    work = []
    for name, (kind, lane) in tasks.items():
        task = task_pb2.Task.FromString(old(name))
        task.task_id, task.export_id, task.user_id = ids.task_id(), new.id, client.user
        task.source.CopyFrom(source)
        key = parts_key(name)
        work.append(NewTask(task.task_id, kind, lane, task.SerializeToString(), 1, key))
    await store.create(new, work, Submission(None, b""), Quotas(0, 0, 0))
    return new.id


def parts_key(name: str) -> bytes | None:
    """Return the key that the assembly of before expects a part of before under."""
    assembly = task_pb2.Task.FromString(old("Task.assemble")).assemble
    if name == "Task.audio":
        return assembly.audio_key
    return assembly.video[CHUNKS.index(name)].key if name in CHUNKS else None


async def test_export_that_an_older_replica_has_stored_is_made(
    store: ExportStore, client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    whole = await ordered(store, client, clip(SHORT), {"Task.whole": ("WHOLE", Lane.CPU)})
    done = await client.wait(whole)
    plan = task_pb2.Task.FromString(old("Task.whole")).whole.plan
    await client.download(done, tmp_path / "whole.mp4")
    assert read_frame_numbers(tmp_path / "whole.mp4") == [*range(plan.frame_count)]


async def test_export_in_parts_that_an_older_replica_has_stored_is_made(
    store: ExportStore, client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    tasks = dict.fromkeys(CHUNKS, ("VIDEO", Lane.CPU))
    tasks |= {"Task.audio": ("AUDIO", Lane.MUX), "Task.assemble": ("ASSEMBLE", Lane.MUX)}
    done = await client.wait(await ordered(store, client, clip(LONG), tasks))
    await client.download(done, tmp_path / "parts.mp4")
    assert read_frame_numbers(tmp_path / "parts.mp4") == [*range(LONG.frames)]


# What it reads


@pytest.fixture(scope="module")
def contract() -> descriptor_pool.DescriptorPool:
    """The contract of the version before."""
    pool = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.FromString((PREVIOUS / "descriptors.binpb").read_bytes()).file:
        pool.Add(file)
    return pool


def as_before(contract: descriptor_pool.DescriptorPool, name: str, data: bytes) -> Message:
    """Return a message as the version before reads it."""
    kind = contract.FindMessageTypeByName(f"{PACKAGE}.{name.partition('.')[0]}")
    message: Message = message_factory.GetMessageClass(kind).FromString(data)
    return message


# What a message says or not as it happens: before a first frame, between two tasks.
BY_CHANCE = {"frames_done", "frames_per_second", "speed", "running_tasks", "busy_slots", "found"}


def said(message: Message, path: str = "") -> Iterator[str]:
    """Yield the path of every field that says something; fail on values that are not known."""
    for field, value in message.ListFields():
        here = f"{path}.{field.name}"
        if field.name in BY_CHANCE:
            continue
        yield here
        ours = field.message_type is not None and field.message_type.file.package == PACKAGE
        for item in value if field.is_repeated else [value]:
            if ours:
                yield from said(item, here)
            elif field.enum_type is not None:
                assert item in field.enum_type.values_by_number, here


async def test_version_before_finds_in_new_messages_what_it_found_in_its_own(
    cluster: LocalCluster,
    client: AsyncClient,
    clip: MakeClip,
    contract: descriptor_pool.DescriptorPool,
    tmp_path: Path,
) -> None:
    overheard = Overheard(client.user)
    url = cluster.infrastructure.nats.url
    async with connect(url, name="overhears", on_closed=lambda: None) as nats:
        await first_connection(nats)
        await nats.subscribe("videoexport.>", cb=overheard.hear)
        await nats.flush()
        video = await client.upload(clip(SHORT))
        for _ in range(2):  # made, then copied
            await client.wait((await client.create_export(video, [(0, 1)])).id)
        long = await client.upload(clip(LONG))
        await client.wait((await client.create_export(long, FOUR_TIMES)).id)
        broken = tmp_path / "broken.mp4"
        broken.write_text("not a video\n" * 100)
        failed = await client.create_export(await client.upload(broken))
        _ = [export async for export in client.watch(failed.id)]
    compared = []
    for name, message in overheard.messages.items():
        # Progress on the way says what there is to say at that moment.
        on_the_way = name.startswith("TaskProgress.") and not name.endswith(".over")
        if (PREVIOUS / f"messages/{name}.binpb").exists() and not on_the_way:
            before = set(said(as_before(contract, name, old(name))))
            now = set(said(as_before(contract, name, message.SerializeToString())))
            assert before <= now, name
            compared.append(name)
    assert {name.partition(".")[0] for name in compared} >= {
        *("Task", "TaskEvent", "TaskProgress", "EncoderHeartbeat"),
        *("ExportChanged", "ExportEnded"),
    }
    assert len([name for name in compared if name.startswith("Task.")]) >= 6
    assert len([name for name in compared if name.startswith("TaskEvent.")]) >= 5
