"""The gRPC server of a service: options, health, reflection, an orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from services.common.config import ServiceSettings, StartupError
from services.common.health import Check, Dependency, HealthReporter
from services.common.interceptors import ErrorInterceptor
from services.common.metrics import DependencyMetrics, RpcMetrics, metrics_endpoint

log = structlog.get_logger()

OPTIONS = [
    # Two processes on one port would split the calls between them unseen.
    ("grpc.so_reuseport", 0),
    # Clients behind NAT ping idle watch streams; the default allows one ping in five minutes.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Clients look their name up again when a connection ends, and so find new replicas.
    # Open streams go on until they end by themselves.
    ("grpc.max_connection_age_ms", 300_000),
    # 1,000 segments are about 60 KiB; nothing legitimate is near 1 MiB.
    ("grpc.max_receive_message_length", 1024 * 1024),
]


@dataclass(frozen=True)
class RunningServer:
    """A server that has started.

    Attributes:
        address: `host:port` it really listens on.
    """

    address: str


async def _well() -> str | None:
    return None


@asynccontextmanager
async def serving(
    settings: ServiceSettings,
    registry: CollectorRegistry,
    *,
    services: Sequence[str],
    register: Callable[[grpc.aio.Server], None],
    check: Check = _well,
    dependencies: Sequence[Dependency] = (),
    end_streams: Callable[[], None] = lambda: None,
) -> AsyncIterator[RunningServer]:
    """Serve gRPC and `/metrics` until the block ends, then stop in order.

    `server.stop` cuts streams without running their `finally`; so the order
    is: NOT_SERVING, `end_streams`, then stop with the grace of the settings.

    Args:
        services: full names, for health and reflection.
        register: adds the servicers.
        check: why the service itself cannot serve now, or None.
        dependencies: what it stands on.
        end_streams: makes every open stream return.
    """
    interceptor = ErrorInterceptor(RpcMetrics(registry), unary_limit=settings.rpc_seconds)
    server = grpc.aio.server(interceptors=[interceptor], options=OPTIONS)
    register(server)
    health = HealthReporter(services, check, dependencies, DependencyMetrics(registry))
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    reflection.enable_server_reflection((*services, HEALTH, reflection.SERVICE_NAME), server)
    await health.start()
    # In an address an IPv6 host stands in brackets.
    host = f"[{settings.listen_host}]" if ":" in settings.listen_host else settings.listen_host
    with metrics_endpoint(registry, settings.listen_host, settings.metrics_port):
        try:
            port = server.add_insecure_port(f"{host}:{settings.listen_port}")
        except RuntimeError:
            raise StartupError(f"{host}:{settings.listen_port} cannot be listened on") from None
        await server.start()
        address = f"{host}:{port}"
        _say(settings, address)
        watching = asyncio.create_task(health.run())
        try:
            yield RunningServer(address)
        finally:
            await health.close()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            end_streams()
            await server.stop(settings.drain_seconds)
            log.info("stopped")


def _say(settings: ServiceSettings, address: str) -> None:
    if settings.on_loopback:
        log.info(
            "listening on loopback only, because callers are not authenticated", address=address
        )
    else:
        log.warning(
            "listening beyond loopback although callers are not authenticated: "
            "whoever reaches this address can act as any user",
            address=address,
        )
