"""Metrics that every service exposes, and the `/metrics` endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from services.common.config import StartupError

# From a cached read (1 ms) to the longest unary call, a probe of a remote source (30 s).
RPC_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def from_zero(counter: Counter, *values: Iterable[str]) -> Counter:
    """Have a counter say 0 for every combination of label values from the start.

    Prometheus takes a series that begins at 1 for one that has not grown: an alert on the
    increase of a rare event would miss the first one of every process.

    Args:
        values: what each label may be, in the order of the labels.
    """
    for combination in product(*values):
        counter.labels(*combination)
    return counter


class RpcMetrics:
    """Counts and times the calls of one server; labels are closed by the protos and the tables."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "videoexport_rpc_total",
            "RPCs answered, by service, method and gRPC status code.",
            ("service", "method", "code"),
            registry=registry,
        )
        self.seconds = Histogram(
            "videoexport_rpc_duration_seconds",
            "Time from an RPC's arrival to its answer's end, by gRPC status code.",
            ("service", "method", "code"),
            buckets=RPC_SECONDS,
            registry=registry,
        )
        self.errors = Counter(
            "videoexport_rpc_errors_total",
            "RPCs answered with an error, by reason of docs/errors.md.",
            ("reason",),
            registry=registry,
        )

    def observe(self, full_method: str, code: grpc.StatusCode, seconds: float) -> None:
        """Record one finished call of `/package.Service/Method`."""
        service, _, method = full_method.removeprefix("/").rpartition("/")
        labels = {"service": service.rpartition(".")[2], "method": method, "code": code.name}
        self.calls.labels(**labels).inc()
        self.seconds.labels(**labels).observe(seconds)


class DependencyMetrics:
    """What a service stands on, as its health sees it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "videoexport_dependency_up",
            "1 while this process can use what it stands on, by dependency.",
            ("dependency",),
            registry=registry,
        )


@contextmanager
def metrics_endpoint(registry: CollectorRegistry, host: str, port: int) -> Iterator[None]:
    """Serve `/metrics` on host:port from a thread of its own."""
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise StartupError(f"{host}:{port} cannot serve metrics: {error.strerror}") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
