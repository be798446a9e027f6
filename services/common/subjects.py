"""Subjects, streams and consumers on NATS, in one place.

| subject                          | stream  | what                                  |
|----------------------------------|---------|---------------------------------------|
| videoexport.tasks.<lane>.<id>    | TASKS   | work; one durable consumer a lane     |
| videoexport.events.<task id>     | EVENTS  | what happened to tasks                |
| videoexport.exports.<id>.<state> | EXPORTS | terminal states, for other services   |
| videoexport.progress.<export id> | none    | frames done, twice a second           |
| videoexport.updates.<export id>  | none    | an export's row changed               |
| videoexport.encoders.<id>        | none    | heartbeats with capabilities          |
| videoexport.control.cancel       | none    | stop these tasks                      |
| videoexport.control.hello        | none    | an API is new: say who you are        |
"""

from __future__ import annotations

from enum import StrEnum

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

TASKS_STREAM = "VIDEOEXPORT_TASKS"
EVENTS_STREAM = "VIDEOEXPORT_EVENTS"
EXPORTS_STREAM = "VIDEOEXPORT_EXPORTS"

EVENTS_CONSUMER = "api"

PROGRESS = "videoexport.progress"
UPDATES = "videoexport.updates"
ENCODERS = "videoexport.encoders"
CANCEL = "videoexport.control.cancel"
HELLO = "videoexport.control.hello"

# An encoder that receives a task for the fourth time takes it for poison: the
# three before it have vanished while they worked on it.
MAX_DELIVERIES = 3

# One queue group of all API replicas: each progress message reaches one of them.
API_GROUP = "api"


class Lane(StrEnum):
    """The queues of tasks; an encoder has slots for each lane it serves."""

    PROBE = "probe"
    CPU = "cpu"
    GPU = "gpu"
    MUX = "mux"  # sounds, assemblies and copies: light work beside the encodes of pictures


def task_subject(lane: Lane, task_id: str) -> str:
    """Subject of one task; its own, so that the reconciler can ask whether it is still there."""
    return f"videoexport.tasks.{lane}.{task_id}"


def events_subject(task_id: str) -> str:
    """Subject of the events of a task."""
    return f"videoexport.events.{task_id}"


def exports_subject(export_id: str, state: str) -> str:
    """Subject of a terminal state of an export."""
    return f"videoexport.exports.{export_id}.{state.lower()}"


def streams(replicas: int) -> list[StreamConfig]:
    """Return the streams; rows in Postgres are the truth, so each has bounds."""
    return [
        StreamConfig(
            name=TASKS_STREAM,
            subjects=["videoexport.tasks.*.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            # The dispatcher keeps a shallow window, so this is only ever a stop.
            max_msgs=100_000,
            storage=StorageType.FILE,
            num_replicas=replicas,
            # A dispatcher that dies between publishing and marking the row
            # publishes again within seconds; two minutes cover a restart.
            duplicate_window=120,
        ),
        StreamConfig(
            name=EVENTS_STREAM,
            subjects=["videoexport.events.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            max_msgs=1_000_000,
            storage=StorageType.FILE,
            num_replicas=replicas,
            duplicate_window=120,
        ),
        StreamConfig(
            name=EXPORTS_STREAM,
            subjects=["videoexport.exports.*.*"],
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.OLD,
            max_age=7 * 24 * 3600,
            max_msgs=1_000_000,
            storage=StorageType.FILE,
            num_replicas=replicas,
            duplicate_window=120,
        ),
    ]


def task_consumer(lane: Lane, ack_wait: float) -> ConsumerConfig:
    """Return the consumer that all encoders of a lane share.

    No BackOff (it would override ack_wait) and no MaxDeliver: the API decides
    about retries, from the delivery count in each run's first event.
    """
    return ConsumerConfig(
        durable_name=lane.value,
        filter_subject=task_subject(lane, "*"),
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ack_wait,
        max_ack_pending=10_000,  # above the slots of any cluster we plan for
    )


def events_consumer() -> ConsumerConfig:
    """Return the consumer that all API replicas share."""
    return ConsumerConfig(
        durable_name=EVENTS_CONSUMER,
        ack_policy=AckPolicy.EXPLICIT,
        # What a replica that was killed had fetched comes to another one after so many seconds.
        # A batch of events is applied well within one; where Postgres makes it take longer,
        # events that come twice change nothing.
        ack_wait=10,
        max_ack_pending=1_000,
    )
