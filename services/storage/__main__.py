"""Starts the storage service: python -m services.storage."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from services.common.bootstrap import start
from services.common.health import Dependency, DependencyName
from services.common.server import serving
from services.storage.buckets import BucketKeeper
from services.storage.keys import Keys
from services.storage.metrics import StorageMetrics
from services.storage.objects import Objects
from services.storage.s3 import S3
from services.storage.servicer import StorageServicer
from services.storage.settings import StorageSettings
from services.storage.uploads import Uploads
from videoexport.v1.storage_service_pb2_grpc import add_StorageServiceServicer_to_server

SERVICE = "videoexport.v1.StorageService"


async def run(settings: StorageSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; S3 may come and go meanwhile."""
    registry = CollectorRegistry()
    metrics = StorageMetrics(registry)
    s3 = S3(settings, metrics)
    objects = Objects(s3, settings.bucket)
    uploads = Uploads(s3, objects, settings, metrics)
    keys = Keys(settings.bucket, settings.source_buckets)
    servicer = StorageServicer(keys, objects, uploads, settings.max_upload_bytes)
    # Health has threads and connections of its own: much work is no reason to look dead.
    s3_for_health = S3(settings, metrics)
    bucket = BucketKeeper(s3_for_health, settings.bucket, settings.s3_region)
    async with AsyncExitStack() as stack:
        stack.callback(s3.close)
        stack.callback(s3_for_health.close)
        background = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(background.create_task(bucket.run()).cancel)
        await stack.enter_async_context(
            serving(
                settings,
                registry,
                services=(SERVICE,),
                register=lambda server: add_StorageServiceServicer_to_server(servicer, server),
                dependencies=[Dependency(DependencyName.S3, bucket.check)],
            )
        )
        await stop.wait()


if __name__ == "__main__":
    sys.exit(start(StorageSettings, run))
