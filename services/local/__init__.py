"""The whole cluster on one machine: real NATS, S3 server and Postgres, all three services."""

import os

# Readiness is asked over gRPC by a process that also starts children: gRPC's own fork
# handlers must be off before the library is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
