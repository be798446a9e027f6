"""A source that is lost while it is examined: the true reason at once, never half an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.encoder.errors import MediaError, SourceNotFound, SourceUnavailable
from services.encoder.metrics import EncoderMetrics
from services.encoder.sources.gateway import SourceGateway, SourceObject
from services.encoder.sources.prober import SourceProber
from services.encoder.storage import StorageClient
from tests.integration.encoder.conftest import MakeClip
from tests.media.frame_codes import Clip
from tests.media.object_server import Fault, ObjectServer, status
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# Filler makes the file so large that it takes many reads.
PADDED = ("-b:v", "2M", "-maxrate", "2M", "-bufsize", "1M", "-x264-params", "nal-hrd=cbr")
LARGE = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", *PADDED)
AT_ONCE = 5.0


class OneSource:
    """The StorageService as far as it is asked here."""

    def __init__(self, server: ObjectServer) -> None:
        self._server = server

    def source_object(self, _user_id: str, _source: task_pb2.TaskSource) -> SourceObject:
        """The object behind the server."""
        return self._server.source()


def passes(_server: ObjectServer, _request: web.Request) -> None:
    """No fault."""


@pytest.fixture(scope="module")
async def gateway() -> AsyncIterator[SourceGateway]:
    """One for all probes, as in the service."""
    async with SourceGateway(give_up_after=0.3) as opened:
        yield opened
        # The child of the last probe may be about to connect once more.
        await asyncio.sleep(0.2)


async def examine(gateway: SourceGateway, content: bytes, faults: list[Fault]) -> pb.SourceInfo:
    async with ObjectServer.serving(content) as server:
        server.faults = faults
        storage = cast(StorageClient, OneSource(server))
        metrics = EncoderMetrics(CollectorRegistry())
        prober = SourceProber(gateway, storage, metrics, timeout=60)
        source = task_pb2.TaskSource(etag=server.etag, size_bytes=len(content))
        return await prober.probe("user", source)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(status(404), SourceNotFound), (status(503), SourceUnavailable)],
    ids=["deleted", "unreachable"],
)
@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "flv"])
async def test_lost_source_ends_the_probe_at_once_with_the_reason(
    clip: MakeClip, gateway: SourceGateway, container: str, fault: Fault, kind: type[MediaError]
) -> None:
    content = clip(Clip(frames=500, encoder=LARGE, container=container)).read_bytes()
    whole = await examine(gateway, content, [])
    outcomes: list[pb.SourceInfo | MediaError] = []
    for served in range(4):
        async with asyncio.timeout(AT_ONCE):
            try:
                outcomes.append(
                    await examine(gateway, content, [*[passes] * served, *[fault] * 1000])
                )
            except MediaError as error:
                outcomes.append(error)
    assert type(outcomes[0]) is kind
    # Where it was told something, it had read all that it needed before.
    assert all(type(outcome) is kind or outcome == whole for outcome in outcomes)
