"""The API service put together: who opens what, and what runs beside the server."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import grpc
from prometheus_client import CollectorRegistry

from services.api.dispatcher import Dispatcher
from services.api.encoders import LiveEncoders
from services.api.events import EventConsumer
from services.api.exports import Exports
from services.api.forecast import Forecast
from services.api.metrics import ApiMetrics
from services.api.planning import ExportPlanner
from services.api.progress import LiveProgress, ProgressWriter
from services.api.reconciler import Reconciler
from services.api.replanning import Replanner
from services.api.servicer import ExportServicer
from services.api.settings import ApiSettings
from services.api.signals import Signals
from services.api.store import (
    BacklogStore,
    Database,
    ExportStore,
    Housekeeping,
    ReuseStore,
    TaskStore,
)
from services.api.watch import Watches
from services.common.cancellation import cancel_until_done
from services.common.health import Dependency, DependencyName
from services.common.nats import connect, connection_problem, first_connection
from services.common.server import serving
from services.common.storage import STORAGE_SERVICE, StorageCalls, service_problem
from videoexport.channel import open_channel
from videoexport.v1.export_service_pb2_grpc import add_ExportServiceServicer_to_server

SERVICE_NAME = "videoexport.v1.ExportService"


async def run(settings: ApiSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    registry = CollectorRegistry()
    metrics = ApiMetrics(registry)
    async with AsyncExitStack() as stack:
        # Connections of their own for the loops: callers who wait for each other must not
        # keep what they wait for from being done.
        for_loops = settings.loop_connections
        database = _database(
            settings,
            settings.database_pool_size - for_loops,
            pool_timeout=settings.database_pool_timeout,
        )
        stack.push_async_callback(database.close)
        # Nobody waits for the loops' answer, and what they give up is only done later.
        loop_database = _database(settings, for_loops, pool_timeout=settings.database_timeout)
        stack.push_async_callback(loop_database.close)
        # And one for health: behind a dispatch that waits for NATS, a replica that can serve
        # its callers would look as if it could not.
        health_database = _database(settings, 1, pool_timeout=settings.database_pool_timeout)
        stack.push_async_callback(health_database.close)
        nats = await stack.enter_async_context(
            connect(settings.nats_url, name="videoexport-api", on_closed=stop.set)
        )
        channel = await stack.enter_async_context(open_channel(settings.storage_address))
        storage = StorageCalls(channel, settings.storage_timeout)
        nats_health = partial(connection_problem, nats)
        storage_health = partial(service_problem, channel, STORAGE_SERVICE)
        signals = Signals(nats)
        encoders = LiveEncoders(settings.encoder_timeout, signals.dispatch.set)
        progress = LiveProgress()
        tasks, housekeeping = TaskStore(loop_database), Housekeeping(loop_database)
        reuse = ReuseStore(loop_database)
        planner = ExportPlanner(settings, encoders, reuse)
        replanner = Replanner(settings, tasks, reuse, housekeeping, planner)
        forecast = Forecast(BacklogStore(database), encoders, progress)
        exports = Exports(
            settings,
            ExportStore(database),
            TaskStore(database),
            storage,
            ExportPlanner(settings, encoders, ReuseStore(database)),
            *(encoders, progress, forecast, signals, metrics),
        )
        watches = Watches(
            exports.get,
            metrics,
            limit=settings.watch_limit,
            per_user=settings.watches_per_user,
        )
        progress.on_progress(watches.mark)
        writer = ProgressWriter(tasks, signals, progress)
        reconciler = Reconciler(
            *(settings, housekeeping, reuse, replanner, nats, storage),
            *(encoders, signals, metrics),
        )
        loops = (
            writer.run,
            Dispatcher(tasks, nats, encoders, signals, metrics).run,
            EventConsumer(settings, tasks, nats, planner, replanner, signals, metrics).run,
            reconciler.run,
            reconciler.run_storage,
        )

        async def listen() -> None:
            await first_connection(nats)
            for listener in (encoders, progress, writer, watches):
                await listener.listen(nats)

        def register(server: grpc.aio.Server) -> None:
            servicer = ExportServicer(settings, exports, watches, encoders)
            add_ExportServiceServicer_to_server(servicer, server)

        await stack.enter_async_context(
            serving(
                settings,
                registry,
                services=[SERVICE_NAME],
                register=register,
                dependencies=[
                    Dependency(DependencyName.POSTGRES, health_database.ping),
                    # Without these two exports are accepted, read, watched and cancelled: a
                    # replica that said otherwise would be taken from its callers for nothing.
                    Dependency(DependencyName.NATS, nats_health, needed=False),
                    Dependency(DependencyName.STORAGE, storage_health, needed=False),
                ],
                end_streams=watches.close,
            )
        )
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(loop()) for loop in (listen, *loops)]
            await stop.wait()
            await cancel_until_done(running)


def _database(settings: ApiSettings, connections: int, *, pool_timeout: float) -> Database:
    return Database(
        settings.database_url.get_secret_value(),
        pool_size=connections,
        timeout=settings.database_timeout,
        pool_timeout=pool_timeout,
        lock_timeout=settings.database_lock_timeout,
    )
