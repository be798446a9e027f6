"""CreateExport calls a second from 32 callers, beside a bare grpc.aio echo.

The encoder is stopped, so that nothing but accepting exports is measured. After each
run its exports are deleted: the queue stays below the default limit of 1,000.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from statistics import median
from typing import TYPE_CHECKING
from uuid import uuid4

import grpc.aio

from bench import sources
from bench.load import Rate, closed_loop, echo_server, percentile
from bench.report import Figure, say
from bench.stage import CALL_TIMEOUT_S, SETTINGS, Stage
from services.local.cluster import SOURCE_BUCKETS
from videoexport.channel import call_metadata, open_channel
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub

if TYPE_CHECKING:
    from videoexport.v1.export_service_pb2_grpc import ExportServiceAsyncStub

RUNS = 5
CALLERS = 32
SECONDS = 3.0
KEY = "bench/short.mp4"


async def measure(stage: Stage) -> list[Figure]:
    """Return the calls a second of both, and how long a call takes among 32."""
    source = await _shared_source(stage)
    sample = await _sample(stage, source)
    accepted: list[Rate] = []
    echoed: list[Rate] = []
    await stage.cluster.stop("encoder-1")
    try:
        async with (
            open_channel(stage.cluster.api.address) as channel,
            echo_server(sample, stage.outputs) as echo_address,
            open_channel(echo_address) as echo_channel,
        ):
            for run in range(RUNS):
                accepted.append(await _accept(channel, source))
                echoed.append(await _echo(echo_channel, source))
                say(
                    f"create_rate {run + 1}/{RUNS}: {accepted[-1].per_second:.0f} calls/s, "
                    f"echo {echoed[-1].per_second:.0f} calls/s"
                )
    finally:
        await stage.cluster.start("encoder-1")
    latencies = sorted(latency for rate in accepted for latency in rate.latencies)
    return [
        Figure("create_rate", median(rate.per_second for rate in accepted), "calls/s"),
        Figure("create_rate.echo", median(rate.per_second for rate in echoed), "calls/s"),
        Figure("create_rate.p50", percentile(latencies, 0.5), "s"),
        Figure("create_rate.p99", percentile(latencies, 0.99), "s"),
    ]


async def _shared_source(stage: Stage) -> pb.Source:
    """Return a probed source that every user may export from."""
    data = (await sources.short(stage.folder)).read_bytes()
    bucket = SOURCE_BUCKETS[0]
    stage.cluster.infrastructure.s3.client().put_object(Bucket=bucket, Key=KEY, Body=data)
    source = pb.Source(s3_object=pb.S3Object(bucket=bucket, key=KEY))
    await stage.client.plan(source)
    return source


async def _sample(stage: Stage, source: pb.Source) -> pb.Export:
    """Return an export as CreateExport answers it."""
    export = await stage.client.create_export(source, settings=SETTINGS)
    await stage.client.delete(export.id)
    return export


async def _accept(channel: grpc.aio.Channel, source: pb.Source) -> Rate:
    stub: ExportServiceAsyncStub = ExportServiceStub(channel)
    created: list[list[str]] = [[] for _ in range(CALLERS)]

    async def create(caller: int) -> None:
        response = await _create(stub, source, caller)
        created[caller].append(response.export.id)

    async def delete(caller: int) -> None:
        for export_id in created[caller]:
            await stub.DeleteExport(
                service.DeleteExportRequest(export_id=export_id),
                metadata=call_metadata(_user(caller)),
                timeout=CALL_TIMEOUT_S,
            )

    rate = await closed_loop(create, CALLERS, SECONDS)
    async with asyncio.TaskGroup() as group:
        for caller in range(CALLERS):
            group.create_task(delete(caller))
    return rate


async def _echo(channel: grpc.aio.Channel, source: pb.Source) -> Rate:
    stub: ExportServiceAsyncStub = ExportServiceStub(channel)
    return await closed_loop(partial(_create, stub, source), CALLERS, SECONDS)


def _create(
    stub: ExportServiceAsyncStub, source: pb.Source, caller: int
) -> Awaitable[service.CreateExportResponse]:
    return stub.CreateExport(
        # With a request id, as the client library sends it.
        service.CreateExportRequest(source=source, settings=SETTINGS, request_id=uuid4().hex),
        metadata=call_metadata(_user(caller)),
        timeout=CALL_TIMEOUT_S,
    )


def _user(caller: int) -> str:
    return f"caller-{caller}"
