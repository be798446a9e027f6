"""Connecting to NATS, and publishing that survives elections and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

import nats
import nats.errors
import structlog
from google.protobuf.message import Message
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StreamConfig
from nats.js.errors import APIError, NotFoundError
from nats.js.errors import Error as JetStreamError
from prometheus_client import CollectorRegistry, Counter

from services.common.cancellation import honour_cancellation
from services.common.metrics import from_zero
from services.common.subjects import (
    EVENTS_STREAM,
    TASKS_STREAM,
    Lane,
    events_consumer,
    streams,
    task_consumer,
)

log = structlog.get_logger()

# How long JetStream is waited for. Without a leader, for seconds after one is lost, nobody
# answers, and what was asked then is lost: it is asked again soon, rather than waited for.
ANSWER_SECONDS = 2.0

# What a passing outage of NATS looks like from a client.
TRANSIENT = (nats.errors.Error, JetStreamError, TimeoutError, OSError)


class PublishProblem(StrEnum):
    """Why JetStream does not take a message; each passes, and the message is sent again."""

    FULL = "full"  # the stream holds as many messages as it may
    NO_SPACE = "no_space"  # JetStream has used up the disk that it may use
    AWAY = "away"  # no answer: no connection, no leader, no stream


# Error codes of JetStream: no resources, no memory, no storage.
_NO_SPACE = frozenset({10023, 10028, 10047})
# What the store of a stream says, always with the same code.
_STORE_FAILED = 10077


def publish_problem(error: BaseException) -> PublishProblem:
    """Return why a message was not taken, by what publishing it has raised."""
    if isinstance(error, APIError):
        said = error.description or ""
        if error.err_code == _STORE_FAILED and said.startswith("maximum "):
            return PublishProblem.FULL
        if error.err_code in _NO_SPACE or error.err_code == _STORE_FAILED:
            return PublishProblem.NO_SPACE
    return PublishProblem.AWAY


class PublishMetrics:
    """How often JetStream did not take what must not be lost."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.held_up = from_zero(
            Counter(
                "videoexport_publishes_held_up_total",
                "Tasks and events that JetStream did not take and that were kept, by problem.",
                ("problem",),
                registry=registry,
            ),
            PublishProblem,
        )


def trouble(error: BaseException) -> str:
    """Return for the log what kept NATS from doing something."""
    if isinstance(error, APIError) and error.description:
        return error.description
    return type(error).__name__


@asynccontextmanager
async def connect(
    url: str, *, name: str, on_closed: Callable[[], None], connect_timeout: int = 2
) -> AsyncIterator[Client]:
    """Connect to NATS and stay connected: every outage is waited out.

    A service starts without NATS as well: its health says what is missing.

    Args:
        url: one address or several, comma-separated.
        name: shown in NATS's monitoring.
        on_closed: called when the connection is closed for good; the service
            must then end, so that it is started anew.
        connect_timeout: seconds for one attempt.
    """
    closing = False

    async def closed() -> None:
        if not closing:
            log.error("nats connection closed for good")
            on_closed()

    async def disconnected() -> None:
        if not closing:
            log.warning("nats disconnected")

    async def reconnected() -> None:
        log.info("nats reconnected")

    async def failed(error: Exception) -> None:
        # Repeated at every attempt while NATS is away; "nats disconnected" has said it.
        log.debug("nats error", error=type(error).__name__)

    client = Client()
    attempt = asyncio.create_task(
        client.connect(
            servers=url.split(","),
            name=name,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=connect_timeout,
            ping_interval=10,
            max_outstanding_pings=2,
            pending_size=8 * 1024 * 1024,
            closed_cb=closed,
            disconnected_cb=disconnected,
            reconnected_cb=reconnected,
            error_cb=failed,
        )
    )
    try:
        yield client
    finally:
        closing = True
        was_connected = attempt.done() and attempt.exception() is None
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)
        if was_connected:
            await _disconnect(client)


async def _disconnect(client: Client) -> None:
    """Send what is pending, if anyone is there to receive it."""
    if client.is_connected:
        try:
            await asyncio.wait_for(client.drain(), 5)
        except TRANSIENT:
            await client.close()
    elif not client.is_closed:
        await client.close()


async def first_connection(client: Client) -> None:
    """Wait until the client has connected for the first time; it cannot subscribe before.

    Later outages need no waiting: the client subscribes again by itself.
    """
    while not client.is_connected:
        await asyncio.sleep(0.05)


async def connection_problem(client: Client) -> str | None:
    """Return why NATS cannot be used, or None; for health."""
    return None if client.is_connected else "NATS is not connected"


def require_connection(client: Client) -> None:
    """Fail at once while NATS is away, where a request would wait for its timeout.

    For whoever would wait with rows locked, and callers behind them.

    Raises:
        nats.errors.ConnectionReconnectingError
    """
    if not client.is_connected:
        raise nats.errors.ConnectionReconnectingError


async def ensure_topology(
    js: JetStreamContext, *, replicas: int, ack_wait: float, update: bool = True
) -> None:
    """Create the streams and consumers that are missing.

    What is as it should be is only looked at: each change is a vote of the NATS cluster.

    Args:
        replicas: copies of each stream.
        ack_wait: silence in seconds after which a task is given to another encoder.
        update: whether those that are set otherwise are brought up to date. Once for each
            process: replicas of two versions or settings would undo each other's for ever.
    """
    for stream in streams(replicas):
        await _ensure_stream(js, stream, update=update)
    for lane in Lane:
        await _ensure_consumer(js, TASKS_STREAM, task_consumer(lane, ack_wait), update=update)
    await _ensure_consumer(js, EVENTS_STREAM, events_consumer(), update=update)


async def _ensure_stream(js: JetStreamContext, wanted: StreamConfig, *, update: bool) -> None:
    name = str(wanted.name)
    try:
        present = (await js.stream_info(name)).config
    except NotFoundError:
        try:
            await js.add_stream(wanted)
        except APIError:
            # Another replica may have been first.
            await js.stream_info(name)
    else:
        if update and _differs(present, wanted):
            await js.update_stream(wanted)


async def _ensure_consumer(
    js: JetStreamContext, stream: str, wanted: ConsumerConfig, *, update: bool
) -> None:
    try:
        present = (await js.consumer_info(stream, str(wanted.durable_name))).config
    except NotFoundError:
        await js.add_consumer(stream, wanted)
    else:
        if update and _differs(present, wanted):
            await js.add_consumer(stream, wanted)


def _differs(
    present: StreamConfig | ConsumerConfig | None, wanted: StreamConfig | ConsumerConfig
) -> bool:
    """Return whether anything that we set is otherwise; the server fills in the rest."""
    return any(value not in (None, getattr(present, name)) for name, value in vars(wanted).items())


async def publish_durably(
    js: JetStreamContext,
    subject: str,
    message: Message,
    *,
    message_id: str,
) -> None:
    """Publish once and wait for JetStream's word that it is stored.

    Args:
        message_id: JetStream drops a second message of the same id for two minutes.

    Raises:
        nats.errors.Error, TimeoutError: it is not known to be stored. During a
            leader election this means "no responders": try again.
    """
    await js.publish(
        subject,
        message.SerializeToString(),
        timeout=ANSWER_SECONDS,
        headers={"Nats-Msg-Id": message_id},
    )
    honour_cancellation()
