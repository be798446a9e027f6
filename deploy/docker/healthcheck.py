"""Docker's health check: ends with 0 when the service of this container says SERVING."""

from __future__ import annotations

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 3


def serving(address: str) -> bool:
    """Return whether the health service at `host:port` answers SERVING in time."""
    with grpc.insecure_channel(address) as channel:
        try:
            # The published types leave out the stub's methods.
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
            answer = check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(0 if serving(os.environ["HEALTHCHECK_ADDRESS"]) else 1)
