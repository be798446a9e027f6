"""gRPC channels to our services, with the options that they are built for."""

from __future__ import annotations

import grpc.aio
from grpc.aio import Metadata

USER_KEY = "videoexport-user"
# How many bytes of error details the caller can receive: every violation of 1,000 segments.
MAX_DETAILS_KEY = "videoexport-max-error-bytes"
MAX_DETAILS = 512 * 1024

_OPTIONS = [
    # Notice a replica that hangs, or is gone without a word, before a call's deadline of 20 s:
    # its calls and watches go on with another one. The servers allow a ping every 10 s; a
    # server with gRPC's defaults would answer GOAWAY below 5 minutes.
    ("grpc.keepalive_time_ms", 12_000),
    ("grpc.keepalive_timeout_ms", 6_000),
    # Without this one, a minute goes by before what the one above says counts.
    ("grpc.http2.ping_timeout_ms", 6_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Error details travel as metadata; gRPC's limit of 8 KiB would drop them whole.
    ("grpc.max_metadata_size", 1024 * 1024),
    # A page of exports with many segments exceeds the default of 4 MiB.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A service that restarts is back within seconds; the default waits up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    # Behind a name with several addresses every replica gets its share of the calls; the
    # default stays with the first one.
    ("grpc.lb_policy_name", "round_robin"),
    # Our services are inside; a proxy of the environment is for what is outside.
    ("grpc.enable_http_proxy", 0),
]


def open_channel(address: str) -> grpc.aio.Channel:
    """Return a channel to `host:port`; nothing connects before the first call."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


def call_metadata(user_id: str) -> Metadata:
    """Return the metadata of a caller's calls: for whom, and that details may be long."""
    return Metadata((USER_KEY, user_id), (MAX_DETAILS_KEY, str(MAX_DETAILS)))
