"""Parts that are written again, or vanish, while an assembly reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.common import ids
from services.common.errors import DomainError, Reason
from services.common.subjects import Lane
from services.encoder.board import Run
from services.encoder.deadline import Deadline
from services.encoder.errors import PartMissing, PartsDiffer, SourceUnavailable
from services.encoder.ffmpeg.process import FfmpegResult, find_ffmpeg
from services.encoder.inspection.output_facts import OutputFacts
from services.encoder.metrics import EncoderMetrics
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceGateway, SourceObject
from services.encoder.storage import StorageClient
from services.encoder.tasks.assembly import Assembly
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns
from tests.integration.encoder.conftest import MakeClip
from tests.media.exporting import Joined, Range, expected_numbers, export_in_parts, plan_of
from tests.media.frame_codes import Clip, read_frame_numbers
from tests.media.object_server import Fault, ObjectServer
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

SOURCE = Clip(frames=100)
RANGES: list[Range] = [(0, 100)]


class StoredParts:
    """The StorageService as far as it is asked here; keeps the output for the test."""

    def __init__(self, servers: dict[bytes, ObjectServer], kept: Path) -> None:
        self.servers = servers
        self.kept = kept

    async def parts(self, _user_id: str, keys: Sequence[bytes]) -> list[SourceObject]:
        """The parts at their versions of now."""
        missing = [key for key in keys if key not in self.servers]
        if missing:
            raise PartMissing(missing)
        return [self._part(key) for key in keys]

    def _part(self, key: bytes) -> SourceObject:
        async def sign() -> str:
            if key not in self.servers:
                raise DomainError(Reason.OBJECT_NOT_FOUND, "There is no such part.")
            return await self.servers[key].sign()

        async def latest() -> SourceObject:
            return (await self.parts("anna", [key]))[0]

        return replace(self.servers[key].source(), sign=sign, read_whole=True, latest=latest)

    async def store(
        self, _user_id: str, _upload: storage.CreateUploadRequest, path: Path
    ) -> storage.ObjectStat:
        """Keep the output."""
        await asyncio.to_thread(path.rename, self.kept)
        return storage.ObjectStat(exists=True, size_bytes=self.kept.stat().st_size)


@pytest.fixture
async def joined(clip: MakeClip, tmp_path: Path) -> Joined:
    """Parts of some chunks and their sound."""
    return await export_in_parts(clip(SOURCE), RANGES, tmp_path, chunk_seconds=1)


@asynccontextmanager
async def stored(joined: Joined, tmp_path: Path) -> AsyncIterator[StoredParts]:
    async with AsyncExitStack() as stack:
        servers = {}
        for number, part in enumerate(joined.parts):
            server = await stack.enter_async_context(ObjectServer.serving(part.read_bytes()))
            servers[bytes([number]) * 32] = server
        yield StoredParts(servers, tmp_path / "kept.mp4")


class NotingRuns(FfmpegRuns):
    """Notes by when what it runs has to be done."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.deadlines: list[Deadline] = []

    async def make(self, *given: Any, deadline: Deadline, **named: Any) -> list[FfmpegResult]:
        """Note it, and run."""
        self.deadlines.append(deadline)
        return await super().make(*given, deadline=deadline, **named)

    async def inspect(self, path: Path, deadline: Deadline, **named: Any) -> OutputFacts:
        """Note it, and look."""
        self.deadlines.append(deadline)
        return await super().inspect(path, deadline, **named)


async def assemble(
    parts: StoredParts, joined: Joined, tmp_path: Path, **plan: Any
) -> tuple[pb.Output, NotingRuns]:
    settings = EncoderSettings(
        nats_url="nats://unused", storage_address="unused", scratch_dir=tmp_path / "scratch"
    )
    settings.own_scratch.mkdir(parents=True)
    metrics = EncoderMetrics(CollectorRegistry())
    *video, sound = list(parts.servers)
    work = task_pb2.AssembleTask(
        plan=plan_of(joined.info, RANGES), audio_key=sound, family=pb.ENCODER_FAMILY_CPU
    )
    work.plan.MergeFrom(pb.Plan(**plan))
    work.time_limit.FromSeconds(60)
    for key, (start, end) in zip(video, joined.chunks, strict=True):
        work.video.add(key=key, frame_count=end - start)
    runs = NotingRuns(settings, find_ffmpeg(), metrics)
    async with SourceGateway(give_up_after=2) as gateway:
        assembly = Assembly(
            settings.own_scratch,
            runs,
            gateway,
            cast(StorageClient, parts),
            metrics,
        )
        run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask())
        output = await assembly.run(
            run, "anna", task_pb2.TaskSource(), work, storage.CreateUploadRequest()
        )
    return output, runs


def renewed(server: ObjectServer, _request: web.Request) -> None:
    """Written onto itself: the same bytes under another ETag."""
    server.etag = f"{int(server.etag, 16) + 1:032x}"


def made_anew(server: ObjectServer, _request: web.Request) -> None:
    """Made by another encoder, whose file is of another length."""
    renewed(server, _request)
    server.content += b"\0\0\0\x08free"


@pytest.mark.parametrize("fault", [renewed, made_anew])
async def test_part_that_is_written_again_before_it_is_read_is_as_good(
    joined: Joined, tmp_path: Path, fault: Fault
) -> None:
    async with stored(joined, tmp_path) as parts:
        for server in list(parts.servers.values())[-2:]:
            server.faults = [fault]
        output, _ = await assemble(parts, joined, tmp_path)
        assert output.frame_count == 100
        assert read_frame_numbers(parts.kept) == expected_numbers(SOURCE, RANGES)


async def test_renewing_many_parts_reads_none_of_the_others_again(
    joined: Joined, tmp_path: Path
) -> None:
    async with stored(joined, tmp_path) as parts:
        for server in parts.servers.values():
            server.faults = [renewed]
        await assemble(parts, joined, tmp_path)
        for server in parts.servers.values():
            assert server.bytes_sent == len(server.content)


async def test_part_that_goes_while_others_are_read_is_named(
    joined: Joined, tmp_path: Path
) -> None:
    async with stored(joined, tmp_path) as parts:
        first, *_, last, _ = parts.servers

        def goes(_server: ObjectServer, _request: web.Request) -> None:
            parts.servers.pop(last, None)

        parts.servers[first].faults = [goes]
        with pytest.raises(PartMissing) as missing:
            await assemble(parts, joined, tmp_path)
        assert missing.value.keys == (last,)


async def test_parts_that_are_never_twice_the_same_may_be_tried_again_later(
    joined: Joined, tmp_path: Path
) -> None:
    async with stored(joined, tmp_path) as parts:
        next(iter(parts.servers.values())).faults = [made_anew] * 1000
        with pytest.raises(SourceUnavailable):
            await assemble(parts, joined, tmp_path)


async def test_everything_that_joining_takes_shares_the_time_of_the_task(
    joined: Joined, tmp_path: Path
) -> None:
    poster = pb.PlannedPoster(frame=3, width=128, height=72)
    async with stored(joined, tmp_path) as parts:
        _, runs = await assemble(parts, joined, tmp_path, poster=poster)
    # The join, the look at it, and the poster.
    assert len(runs.deadlines) == 3
    assert len(set(runs.deadlines)) == 1


async def test_parts_in_another_codec_than_planned_are_not_delivered(
    joined: Joined, tmp_path: Path
) -> None:
    async with stored(joined, tmp_path) as parts:
        with pytest.raises(PartsDiffer, match="pictures in h264 instead of av1"):
            await assemble(parts, joined, tmp_path, video_codec=pb.VIDEO_CODEC_AV1)
        assert not parts.kept.exists()
